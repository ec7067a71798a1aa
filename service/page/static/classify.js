import { post } from "./api.js";
import { el, field, number, problem, show } from "./dom.js";

const OWN = "each head’s own threshold";

export function open(place, state) {
  if (!state.heads.length) {
    show(place, el("h2", {}, "Classify"), el("p", { class: "lead" }, "This server has no classifier head yet. Start it with --head FOLDER."));
    return;
  }
  const text = el("textarea", { placeholder: "A text to classify" });
  const least = el("input", { type: "range", min: "0", max: "100", value: "0" });
  const told = el("output", {}, OWN);
  least.addEventListener("input", () => (told.textContent = least.value === "0" ? OWN : `${least.value} %`));
  const results = el("div", { "aria-live": "polite" });
  const form = el("form", { class: "card" }, field("Text", text),
    el("div", { class: "row" }, el("div", { class: "grow" }, field("Say “don’t know” below", least)), told, el("button", { class: "primary" }, "Classify")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { answer, ms } = await post("v1/classify", { input: text.value, top: 8, chunk: true, ...(least.value === "0" ? {} : { min_probability: least.value / 100 }) });
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
  if (found.value !== null) return el("div", { class: "card" }, el("h3", {}, name), ...notes(found), el("p", { class: "value" }, number(found.value)));
  const chosen = new Set(found.chosen ?? []);
  return el("div", { class: "card" }, el("h3", {}, name), ...notes(found),
    ...found.labels.map(({ label, probability }) => el("div", { class: chosen.has(label) ? "bar chosen" : "bar" }, el("span", {}, chosen.has(label) ? `✓ ${label}` : String(label)),
      el("progress", { max: "1", value: String(probability), "aria-label": `${label}` }), el("output", {}, `${number(100 * probability, 1)} %`))));
}

function notes(found) {
  const none = found.chosen !== null && !found.chosen.length;
  const unsure = [
    found.out_of_scope ? "Don’t know: this is like nothing that the head was fitted on." : null,
    found.abstained ? "Don’t know: no label is probable enough." : null,
    none ? "None of the labels." : null,
  ].filter(Boolean);
  const pieces = found.pieces > 1 ? [el("p", { class: "meta" }, `judged in ${found.pieces} pieces, whose scores are averaged`)] : [];
  return [...unsure.map((note) => el("p", { class: "unsure" }, note)), ...pieces];
}
