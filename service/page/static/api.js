// Calls of the server that this page came from. The last call is kept for "Try the API".
let key = sessionStorage.getItem("key") || "";
export const last = { method: "POST", path: "v1/embeddings", body: null };
export const setKey = (value) => sessionStorage.setItem("key", (key = value));

export async function call(method, path, body, { remember = true } = {}) {
  if (remember) Object.assign(last, { method, path, body });
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  const begun = performance.now();
  let response;
  try {
    response = await fetch(path, { method, headers, body: body ? JSON.stringify(body) : undefined });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  let answer = null;
  try { answer = await response.json(); } catch { /* what is no JSON is told by its status */ }
  if (!response.ok) {
    const error = new Error(answer?.error?.message || `The server answered ${response.status}.`);
    error.status = response.status;
    throw error;
  }
  return { answer, ms: performance.now() - begun, timing: response.headers.get("server-timing") || "" };
}

export const get = (path) => call("GET", path, null, { remember: false });
export const post = (path, body, options) => call("POST", path, body, options);
export const ofCollection = (name, rest) => `v1/collections/${encodeURIComponent(name)}${rest}`;
