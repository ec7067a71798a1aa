"""Shapes of a student at equal training: quality against speed, to choose the shape of the default model from.

    python -m benchmarks.student_front --data DATA --teacher TEACHER --work WORK 384x3x768 384x2x768 ...

A shape is hidden width x layers x MLP. Each is distilled for the same few steps over the same texts by
``encoder_tools.distillation``, measured on STS-B dev and by its agreement with the teacher on texts held out,
exported, and timed beside the teacher, an exported all-MiniLM-L6-v2.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.embedder_speed import rates, texts
from encoder_tools.distillation.run import distill
from encoder_tools.evaluation.evaluate import evaluate
from encoder_tools.evaluation.tasks import public_tasks
from encoder_tools.io.files import write_json
from encoder_tools.onnx_export import export
from encoder_tools.runtime import OnnxEncoder

RESULT = Path(__file__).parent / "results" / "student_front.json"
_RECIPE = """
teacher = "{teacher}"
[texts]
corpus = "{data}"
most = {texts}
held_out = 2000
[student]
hidden = {hidden}
layers = {layers}
heads = {heads}
key_value_heads = {groups}
mlp = {mlp}
[vocabulary]
least_count = 0
[training]
steps = {steps}
warmup = 60
longest = 96
precision = "{precision}"
[loss]
dims = [384, 128]
"""


def measured(shape: str, data: Path, teacher: Path, work: Path, steps: int, precision: str) -> dict[str, float]:
    """Distil, export and time one shape."""
    hidden, layers, mlp = (int(part) for part in shape.split("x"))
    heads = hidden // 64
    recipe = work / f"{shape}.toml"
    work.mkdir(parents=True, exist_ok=True)
    recipe.write_text(
        _RECIPE.format(
            teacher=teacher.resolve(),
            data=data.resolve(),
            texts=128 * steps + 6000,
            hidden=hidden,
            layers=layers,
            heads=heads,
            groups=2 if heads % 2 == 0 else 1,
            mlp=mlp,
            steps=steps,
            precision=precision,
        ),
        encoding="utf-8",
    )
    out = work / shape
    distill(recipe, out, work=work / f"run-{shape}", overwrite=True, log=print)
    export(out)
    peer, student = OnnxEncoder(teacher, threads=1), OnnxEncoder(out, threads=1)
    (task,) = public_tasks(data, ("stsb-dev",))
    agreement = student.space.agreement
    assert agreement is not None
    speed = {kind: rates([peer, student], batch) for kind, batch in texts().items()}
    return {
        "unseen_cosine": agreement.mean_cosine,
        "stsb_dev_spearman": round(evaluate(student, task)[0].value, 4),
        **{f"{kind}_times_the_teacher": round(pair[1] / pair[0], 2) for kind, pair in speed.items()},
    }


@click.command()
@click.argument("shapes", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The project's data folder.")
@click.option("--teacher", required=True, type=click.Path(path_type=Path), help="An exported all-MiniLM-L6-v2.")
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder of the runs.")
@click.option("--steps", default=300, show_default=True, help="Steps of 128 texts.")
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16"]))
def main(shapes: tuple[str, ...], data: Path, teacher: Path, work: Path, steps: int, precision: str) -> None:
    """Measure, print, and add the shapes to the result file."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"shapes": {}}
    for shape in shapes:
        known["shapes"][shape] = {"steps": steps, **measured(shape, data, teacher, work, steps, precision)}
        print(shape, known["shapes"][shape])
        write_json(RESULT, known)


if __name__ == "__main__":
    main()
