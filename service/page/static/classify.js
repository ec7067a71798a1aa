import { post } from "./api.js";
import { el, field, number, problem, show } from "./dom.js";

export function open(place, state) {
  if (!state.heads.length) {
    show(place, el("h2", {}, "Classify"), el("p", { class: "lead" }, "This server has no classifier head yet. Start it with --head FOLDER."));
    return;
  }
  const text = el("textarea", { placeholder: "A text to classify" });
  const least = el("input", { type: "range", min: "0", max: "100", value: "40" });
  const told = el("output", {}, "40 %");
  least.addEventListener("input", () => (told.textContent = `${least.value} %`));
  const results = el("div", { "aria-live": "polite" });
  const form = el("form", { class: "card" }, field("Text", text),
    el("div", { class: "row" }, el("div", { class: "grow" }, field("Say “don’t know” below", least)), told, el("button", { class: "primary" }, "Classify")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { answer, ms } = await post("v1/classify", { input: text.value, top: 8, min_probability: least.value / 100, truncate: true });
      const heads = Object.entries(answer.data[0].heads);
      show(results, el("p", { class: "meta" }, `${heads.length} ${heads.length === 1 ? "head" : "heads"} on one pass of the model in ${number(ms, 1)} ms`),
        el("div", { class: "columns" }, ...heads.map(([name, found]) => head(name, found))));
    } catch (error) {
      show(results, problem(error));
    }
  });
  show(place, el("h2", {}, "Classify"), el("p", { class: "lead" }, "Calibrated probabilities of every head, from one pass of the model."), form, results);
}

function head(name, found) {
  const unsure = found.abstained ? "Don’t know: no label is probable enough." : found.out_of_scope ? "Don’t know: this is like nothing that the head was fitted on." : null;
  return el("div", { class: "card" }, el("h3", {}, name), unsure ? el("p", { class: "unsure" }, unsure) : null,
    ...found.labels.map(({ label, probability }) => el("div", { class: "bar" }, el("span", {}, String(label)),
      el("progress", { max: "1", value: String(probability), "aria-label": `${label}` }), el("output", {}, `${number(100 * probability, 1)} %`))));
}
