import { last } from "./api.js";
import { el, select, show } from "./dom.js";

const EXAMPLES = (state) => [
  ["Embeddings (OpenAI)", "POST", "v1/embeddings", { model: state.models[0].id, input: ["Where is my card?"] }],
  ["Rerank (Cohere)", "POST", "v1/rerank", { model: state.models[0].id, query: "oxygen", documents: ["a card", "Scheele found oxygen"], top_n: 1 }],
  ["Embed (text-embeddings-inference)", "POST", "embed", { inputs: ["one", "two"] }],
  ["Similarity", "POST", "similarity", { inputs: { source_sentence: "a card", sentences: ["my card", "rain"] } }],
  ...state.collections.slice(0, 1).map((one) => ["Search", "POST", `v1/collections/${one.name}/search`, { query: "your question", k: 3, mode: "hybrid" }]),
  ...state.heads.slice(0, 1).map(() => ["Classify", "POST", "v1/classify", { input: "your text", top: 3 }]),
];

export function open(place, state) {
  const examples = EXAMPLES(state);
  if (last.body) examples.unshift(["Your last call on this page", last.method, last.path, last.body]);
  const [chooser, which] = select("Call", examples.map(([title], index) => [String(index), title]));
  const curl = el("pre", { id: "curl", tabindex: "0" });
  const python = el("pre", { id: "python", tabindex: "0" });
  const write = () => {
    const [, method, path, body] = examples[Number(which.value)];
    const url = new URL(path, document.baseURI.split("#")[0]).href;
    curl.textContent = asCurl(method, url, body);
    python.textContent = asPython(url, body);
  };
  which.addEventListener("change", write);
  write();
  show(place, el("h2", {}, "Try the API"), el("p", { class: "lead" }, "The same call from a shell and from Python. Every route speaks JSON; docs/clients.md lists clients that work as they are."),
    el("div", { class: "card" }, chooser), card("curl", curl), card("Python", python));
}

function card(title, code) {
  const button = el("button", { type: "button", onclick: async () => {
    await navigator.clipboard?.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  } }, "Copy");
  return el("div", { class: "card" }, el("div", { class: "row" }, el("h3", { class: "grow" }, title), button), code);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const asCurl = (method, url, body) => `curl -X ${method} ${quoted(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;

function asPython(url, body) {
  const written = JSON.stringify(body, null, 4).replace(/("(?:[^"\\]|\\.)*")|\btrue\b|\bfalse\b|\bnull\b/g, (found, text) => text ?? { true: "True", false: "False", null: "None" }[found]);
  return `import httpx\n\nanswer = httpx.post(\n    ${JSON.stringify(url)},\n    json=${written.replaceAll("\n", "\n    ")},\n)\nprint(answer.raise_for_status().json())`;
}
