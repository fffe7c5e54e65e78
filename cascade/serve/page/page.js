"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);
  const state = { tree: null, texts: [], rows: [], picked: 0, open: new Map() };

  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function say(text, wrong) {
    at("status").textContent = text;
    at("status").className = wrong ? "wrong" : "";
  }

  async function fetched(path, body) {
    const headers = {};
    const token = sessionStorage.getItem("token");
    if (token) headers.authorization = `Bearer ${token}`;
    if (body) headers["content-type"] = "application/json";
    const asked = { headers, method: body ? "POST" : "GET", body: body && JSON.stringify(body) };
    const answer = await fetch(path, asked);
    const found = await answer.json();
    if (answer.status === 401) at("entry").hidden = false;
    if (!answer.ok) {
      const details = [found.where, found.found && `found ${found.found}`, found.expected && `expected ${found.expected}`];
      throw new Error([found.title, details.filter(Boolean).join(", ")].filter(Boolean).join(" "));
    }
    return found;
  }

  async function loadTree() {
    const told = await fetched("/v1/taxonomy");
    state.tree = told.tree;
    state.model = told.model;
    at("model").textContent = told.name;
    at("entry").hidden = true;
    draw();
  }

  async function ask() {
    const texts = at("texts").value.split("\n").filter((line) => line.trim());
    if (!texts.length) { say("Write a text first.", true); at("texts").focus(); return; }
    say("…");
    try {
      const told = await fetched("/v1/predict", { texts, trace: true, scores: "all" });
      if (told.model !== state.model) await loadTree();
      Object.assign(state, { texts, rows: told.rows, picked: 0, open: new Map() });
      say(`${texts.length === 1 ? "1 text" : `${texts.length} texts`} answered`);
      drawAnswers();
      draw();
    } catch (error) {
      say(error.message, true);
    }
  }

  function drawAnswers() {
    at("answers").replaceChildren(...state.rows.map((row, place) => {
      const item = make("li"), button = make("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(place === state.picked));
      button.append(make("span", "said", state.texts[place].slice(0, 600)));
      const labels = make("span", "labels");
      for (const label of row.labels) {
        labels.append(make("span", "", `✓ ${label} ${row.scores[label].toFixed(2)}`));
      }
      if (!row.labels.length) labels.append(make("span", "none", "no label"));
      button.append(labels);
      button.addEventListener("click", () => { state.picked = place; state.open.clear(); mark(); draw(); });
      item.append(button);
      return item;
    }));
  }

  function mark() {
    document.querySelectorAll("#answers button").forEach((button, place) => {
      button.setAttribute("aria-pressed", String(place === state.picked));
    });
  }

  // What the trace of the picked text says of each edge.
  function visits() {
    const row = state.rows[state.picked];
    const found = new Map();
    for (const entry of (row && row.trace) || []) found.set(`${entry.parent}\n${entry.node}`, entry);
    return found;
  }

  function draw() {
    if (!state.tree) return;
    const found = visits(), labels = new Set((state.rows[state.picked] || { labels: [] }).labels);
    const items = state.tree.children.map((child) => drawNode(child, "", found, labels)).filter(Boolean);
    at("tree").replaceChildren(...items);
  }

  function kindOf(entry, labels) {
    if (!entry) return "";
    if (labels.has(entry.node)) return "chosen";
    return entry.entered ? "entered" : "missed";
  }

  const MARKS = { chosen: "✓", entered: "▸", missed: "✕", "": "·" };
  const SAID = { chosen: "chosen", entered: "entered", missed: "scored, not chosen", "": "not visited" };

  function drawNode(node, parent, found, labels) {
    const entry = found.get(`${parent}\n${node.name}`), kind = kindOf(entry, labels);
    const isTop = parent === "";
    if (!entry && state.rows.length && !at("all").checked) return null;
    if (!state.rows.length && !isTop && !at("all").checked) return null;
    const item = make("li"), button = make("button", `node ${entry ? "visited" : ""} ${kind}`);
    button.type = "button";
    button.append(make("span", `mark ${kind}`, MARKS[kind]), make("span", "name", node.name));
    if (entry) button.append(meter(entry), make("span", "figure", entry.path.toFixed(2)));
    const why = reason(node, parent, entry, kind);
    button.setAttribute("aria-label", `${node.name}, ${SAID[kind]}${entry ? `, ${entry.path.toFixed(2)} of ${entry.threshold.toFixed(2)}` : ""}`);
    for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, () => { at("reason").replaceChildren(...why); });
    item.append(button);
    const inner = (node.children || []).map((child) => drawNode(child, node.name, found, labels)).filter(Boolean);
    if (inner.length) item.append(folded(button, inner, `${parent}\n${node.name}`, entry));
    return item;
  }

  // The children of a group, shut at first where nothing in it was chosen.
  function folded(button, inner, key, entry) {
    const list = make("ul");
    list.append(...inner);
    const open = (now) => {
      list.hidden = !now;
      button.setAttribute("aria-expanded", String(now));
      button.querySelector(".fold").textContent = now ? "" : ` (${inner.length} more)`;
    };
    button.querySelector(".name").append(make("span", "fold"));
    open(state.open.has(key) ? state.open.get(key) : !entry || Boolean(list.querySelector(".chosen")));
    button.addEventListener("click", () => { state.open.set(key, list.hidden); open(list.hidden); });
    return list;
  }

  function meter(entry) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "meter");
    svg.setAttribute("viewBox", "0 0 100 10");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const shapes = [
      ["rect", { class: "ground", x: 0, y: 0, width: 100, height: 10 }],
      ["rect", { class: "score", x: 0, y: 0, width: 100 * entry.path, height: 10 }],
      ["line", { class: "least", x1: 100 * entry.threshold, x2: 100 * entry.threshold, y1: 0, y2: 10 }],
    ];
    for (const [name, values] of shapes) {
      const shape = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(values)) shape.setAttribute(key, value);
      svg.append(shape);
    }
    return svg;
  }

  function reason(node, parent, entry, kind) {
    const lines = [make("b", "", node.name)];
    if (node.description) lines.push(make("div", "", node.description));
    lines.push(make("div", "", entry ? told(node, parent, entry, kind) : untold(node, parent)));
    return lines;
  }

  function told(node, parent, entry, kind) {
    const under = parent ? `of its group ${parent}, ${entry.conditional.toFixed(3)}` : `of all texts, ${entry.conditional.toFixed(3)}`;
    const reaches = entry.path >= entry.threshold ? "reaches" : "is below";
    const end = kind === "chosen" ? "chosen" : node.kind === "group"
      ? (entry.entered ? "so its children were looked at" : "so nothing below it was looked at")
      : (entry.path >= entry.threshold ? "but another of its group, or of its way, was the better one" : "so it is no answer");
    return `Score as one ${under}. Probability along the walk ${entry.path.toFixed(3)} ${reaches} the threshold ${entry.threshold.toFixed(3)}: ${end}.`;
  }

  function untold(node, parent) {
    if (!state.rows.length) return node.kind === "group" ? `A group with ${node.labels_below} labels.` : "A label.";
    return parent ? `Not visited: its group ${parent} was not entered.` : "Not visited.";
  }

  at("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  at("texts").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  at("entry").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", at("token").value.trim());
    at("token").value = "";
    begin();
  });
  at("all").addEventListener("change", draw);

  function begin() {
    loadTree().then(() => say(""), (error) => say(error.message, true));
  }
  begin();
})();
