"use strict";
// What both pages share: elements, requests with the token, bars, words, and the tree of the taxonomy.
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);

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

function request(body, method) {
  const headers = {}, token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers["content-type"] = "application/json";
  return { headers, method: method || (body ? "POST" : "GET"), body: body && JSON.stringify(body) };
}

// The answer as JSON; an error with what was found and expected, its status and its body, where it is refused.
async function fetched(path, body, method) {
  const answer = await fetch(path, request(body, method));
  const found = await answer.json();
  if (answer.status === 401) at("entry").hidden = false;
  if (!answer.ok) {
    const details = [found.where, found.found && `found ${found.found}`, found.expected && `expected ${found.expected}`];
    const told = [found.title, details.filter(Boolean).join(", ")].filter(Boolean).join(" ");
    throw Object.assign(new Error(told), { status: answer.status, body: found });
  }
  return found;
}

function askForToken(begin) {
  at("entry").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", at("token").value.trim());
    at("token").value = "";
    at("entry").hidden = true;
    begin();
  });
}

// A bar for a probability, with a line at its threshold where there is one.
function meter(path, threshold) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "meter");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const shapes = [
    ["rect", { class: "ground", x: 0, y: 0, width: 100, height: 10 }],
    ["rect", { class: "score", x: 0, y: 0, width: 100 * path, height: 10 }],
  ];
  if (typeof threshold === "number") shapes.push(["line", { class: "least", x1: 100 * threshold, x2: 100 * threshold, y1: 0, y2: 10 }]);
  for (const [name, values] of shapes) {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(values)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}

// Fills a list with so many items at once; a button stands for the others. `last` comes after all of them.
function fillList(list, nodes, most, draw, last = []) {
  const made = nodes.slice(0, most).map(draw), rest = nodes.slice(most);
  if (!rest.length) { list.append(...made, ...last); return made[0]; }
  const item = make("li"), button = make("button", "more", `${rest.length.toLocaleString("en")} more`);
  button.type = "button";
  button.addEventListener("click", () => {
    item.remove();
    fillList(list, rest, most, draw, last).querySelector("input, summary, button").focus();
  });
  item.append(button);
  list.append(...made, item);
  return made[0];
}

const edge = (parent, node) => `${parent}\n${node}`;

// Each step of an explanation by its edge, those below groups too.
function stepsOf(steps, parent = "", found = new Map()) {
  for (const step of steps) {
    found.set(edge(parent, step.node), step);
    stepsOf(step.steps, step.node, found);
  }
  return found;
}

// The explanation of a text, asked for once; null where it cannot be had: it is an extra.
const explanations = new Map();
function explained(text) {
  if (!explanations.has(text)) {
    const asked = fetched("/v1/explain", { text }).then((told) => stepsOf(told.steps), () => null);
    explanations.set(text, asked);
    if (explanations.size > 100) explanations.delete(explanations.keys().next().value);
  }
  return explanations.get(text);
}

// What words did at a node, for it and against it; what would be shown as 0.00 is left out.
function pushes(step) {
  const told = make("div", "pushes");
  for (const [name, sign] of [["for", 1], ["against", -1]]) {
    const words = step.pushes.filter((one) => one.push * sign >= 0.005);
    if (!words.length) continue;
    told.append(make("span", "quiet", `${name} it: `));
    for (const one of words) {
      told.append(make("span", `push ${name}`, `${one.word} ${one.push < 0 ? "−" : "+"}${Math.abs(one.push).toFixed(2)}`), " ");
    }
  }
  return told;
}

// A text whose words are marked by what they did; the places count characters as Python does.
function marked(text, step) {
  const characters = Array.from(text), signs = new Array(characters.length).fill(0);
  for (const one of step ? step.pushes : []) {
    for (const [start, end] of one.spans) signs.fill(Math.sign(one.push), start, end);
  }
  return inParts(characters, signs).map(([part, sign]) => (sign ? make("mark", sign > 0 ? "for" : "against", part) : part));
}

// Characters in stretches that have the same value.
function inParts(characters, values) {
  const parts = [];
  for (let start = 0, end; start < characters.length; start = end) {
    for (end = start + 1; end < characters.length && values[end] === values[start];) end += 1;
    parts.push([characters.slice(start, end).join(""), values[start]]);
  }
  return parts;
}

// A text whose words are marked that carry a label; each mark tells which labels. `most` characters are shown.
function withEvidence(text, evidence, most) {
  const characters = Array.from(text).slice(0, most), labels = new Array(characters.length).fill("");
  for (const one of evidence) {
    for (const { start, end } of one.spans) {
      for (let place = start; place < Math.min(end, characters.length); place += 1) {
        labels[place] += labels[place] ? `, ${one.label}` : one.label;
      }
    }
  }
  return inParts(characters, labels).map(([part, told]) => {
    if (!told) return part;
    const mark = make("mark", "carries", part);
    mark.title = told;
    return mark;
  });
}
