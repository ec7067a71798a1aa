import { el, number, show } from "./dom.js";

export function open(place, state) {
  const own = state.models.filter((model) => model.id === model.root);
  show(place, el("h2", {}, "Models"), el("p", { class: "lead" }, "What is loaded, what it runs on, and how exactly the export follows the original."), ...own.map((model) => card(model, state)));
}

function card(model, state) {
  const names = state.models.filter((one) => one.root === model.root && one.id !== model.id).map((one) => one.id);
  const prompts = Object.entries(model.prompts).filter(([, text]) => text).map(([name, text]) => `${name}: “${text}”`);
  const parity = Object.entries(model.parity).map(([name, value]) => `${name.replace("_", " ")} ${Number(value).toPrecision(7)}`);
  const rows = [["Dimensions", number(model.dim)], ["Longest input", model.max_length ? `${number(model.max_length)} tokens` : "no limit"], ["Runs on", model.provider],
    ["Other names", names.join(", ") || "none"], ["Prompts", prompts.join("; ") || "none"], ["Parity with the original", parity.join(", ") || "not known"], ["Fingerprint", model.fingerprint]];
  return el("div", { class: "card" }, el("h3", {}, model.id), el("table", {}, el("tbody", {}, ...rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: name === "Fingerprint" ? "code" : "" }, value))))),
    model.quality.length ? quality(model.quality) : null);
}

function quality([head, ...rows]) {
  return el("details", { open: true }, el("summary", {}, "Quality, from the model's card"), el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((value) => el("td", {}, value))))))));
}
