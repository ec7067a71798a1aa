import { get, setKey } from "./api.js";
import { el, problem, show } from "./dom.js";

const TABS = [["search", "Search"], ["map", "Map"], ["classify", "Classify"], ["try", "Try the API"], ["models", "Models"], ["live", "Live"]];
const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
const state = { collections: [], heads: [], models: [] };
let leave = null;

for (const [name, title] of TABS) {
  tabs.append(el("button", { role: "tab", id: `tab-${name}`, "aria-controls": "main", onclick: () => (location.hash = name) }, title));
}
tabs.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...tabs.children];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  next.focus();
  next.click();
});

async function open() {
  const asked = location.hash.slice(1);
  const name = TABS.some(([known]) => known === asked) ? asked : "search";
  for (const tab of tabs.children) {
    const here = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
  }
  main.setAttribute("aria-labeledby", `tab-${name}`);
  leave?.();
  leave = null;
  try {
    const module = await import(`./${name}.js`);
    const place = el("section", { id: name });
    show(main, place);
    leave = (await module.open(place, state)) || null;
  } catch (error) {
    show(main, problem(error));
  }
}

async function start() {
  const alert = document.getElementById("alert");
  const form = document.getElementById("key-form");
  try {
    const [models, collections, about] = await Promise.all([get("v1/models"), get("v1/collections"), get("info")]);
    state.models = models.answer.data;
    state.collections = collections.answer.data;
    const index = await get("v1/served");
    state.heads = index.answer.heads;
    document.getElementById("version").textContent = `encoder-tools ${about.answer.version}`;
    const bad = Object.entries(index.answer.unavailable);
    alert.textContent = bad.map(([name, why]) => `The collection ${name} cannot be served: ${why}`).join(" ");
    alert.hidden = !bad.length;
    form.hidden = true;
    await open();
  } catch (error) {
    form.hidden = error.status !== 401;
    alert.textContent = error.message;
    alert.hidden = false;
    if (!form.hidden) document.getElementById("key").focus();
  }
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(document.getElementById("key").value);
  start();
});
addEventListener("hashchange", open);
start();
