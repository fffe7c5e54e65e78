(() => {
  const MANY = 200;  // with more labels than these the likeliest of a long list stand first
  const LONG = 12, MOST_NODES = 100, MOST_SHOWN = 600, MOST_WITH_EVIDENCE = 10000;
  const state = { tree: null, texts: [], rows: [], picked: 0, open: new Map() };

  async function loadTree() {
    const told = await fetched("/v1/taxonomy");
    state.tree = told.tree;
    state.model = told.model;
    at("model").textContent = told.calibrated === false ? `${told.name} (not calibrated)` : told.name;
    at("entry").hidden = true;
    draw();
  }

  async function ask() {
    const texts = at("texts").value.split("\n").filter((line) => line.trim());
    if (!texts.length) { say("Write a text first.", true); at("texts").focus(); return; }
    say("…");
    try {
      const evidence = texts.every((text) => text.length <= MOST_WITH_EVIDENCE);
      const told = await fetched("/v1/predict", { texts, trace: true, scores: "all", evidence });
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
      const said = make("span", "said");
      const show = (label) => said.replaceChildren(...withEvidence(state.texts[place], evidenceFor(row, label), MOST_SHOWN));
      show();
      button.append(said);
      const labels = make("span", "labels");
      for (const label of row.labels) {
        const chip = make("span", "", `✓ ${label} ${row.scores[label].toFixed(2)}`);
        chip.addEventListener("mouseenter", () => { show(label); tellOfLabel(place, label); });
        chip.addEventListener("mouseleave", () => show());
        labels.append(chip);
      }
      const unknown = row.trace.find((entry) => entry.why);
      if (!row.labels.length) labels.append(make("span", "none", unknown ? `no label: ${unknown.why}` : "no label"));
      button.append(labels);
      button.addEventListener("click", () => { state.picked = place; state.open.clear(); mark(); draw(); });
      item.append(button);
      return item;
    }));
  }

  // Of one label, or of all of them.
  function evidenceFor(row, label) {
    return (row.evidence || []).filter((one) => label === undefined || one.label === label);
  }

  function mark() {
    document.querySelectorAll("#answers button").forEach((button, place) => {
      button.setAttribute("aria-pressed", String(place === state.picked));
    });
  }

  // What the trace of a text says of each edge.
  function visits(place) {
    const row = state.rows[place];
    const found = new Map();
    for (const entry of (row && row.trace) || []) found.set(edge(entry.parent, entry.node), entry);
    return found;
  }

  // Of several ways to a label the one that gave most.
  function tellOfLabel(place, label) {
    const ways = state.rows[place].trace.filter((entry) => entry.node === label);
    const best = ways.reduce((one, other) => (other.conditional > one.conditional ? other : one));
    tell(place, { name: label, kind: "label" }, best.parent, best, "chosen");
  }

  // Why, and once it is there what words did, with these words marked in the text.
  let telling = 0;
  async function tell(place, node, parent, entry, kind) {
    const turn = ++telling, text = state.texts[place];
    at("reason").replaceChildren(...reason(node, parent, entry, kind));
    if (text === undefined) return;
    at("text").replaceChildren(text);
    const steps = entry && await explained(text);
    const step = steps && steps.get(edge(parent, node.name));
    if (!step || turn !== telling) return;
    at("reason").append(pushes(step));
    at("text").replaceChildren(...marked(text, step));
  }

  function draw() {
    if (!state.tree) return;
    const found = visits(state.picked), labels = new Set((state.rows[state.picked] || { labels: [] }).labels);
    const view = { found, labels, only: matching(), toChosen: waysToChosen(found, labels) };
    at("tree").replaceChildren();
    fill(at("tree"), state.tree.children, "", view);
    at("text").replaceChildren(state.texts[state.picked] || "");
    at("text").hidden = !state.texts.length;
  }

  function kindOf(entry, labels) {
    if (!entry) return "";
    if (labels.has(entry.node)) return "chosen";
    return entry.entered ? "entered" : "missed";
  }

  const MARKS = { chosen: "✓", entered: "▸", missed: "✕", "": "·" };
  const SAID = { chosen: "chosen", entered: "entered", missed: "scored, not chosen", "": "not visited" };

  // The groups with something chosen in them.
  function waysToChosen(found, labels) {
    const above = new Set();
    const climb = (name) => {
      for (const entry of found.values()) if (entry.node === name && !above.has(entry.parent)) { above.add(entry.parent); climb(entry.parent); }
    };
    for (const label of labels) climb(label);
    return above;
  }

  // What is searched for, with what stands above it; null where nothing is.
  function matching() {
    const inWords = (text) => text.toLowerCase().replaceAll("_", " ");
    const wanted = inWords(at("find").value).split(/\s+/).filter(Boolean);
    at("found").textContent = "";
    if (!wanted.length) return null;
    const kept = new Set();
    let count = 0;
    const visit = (node) => {
      const name = inWords(node.name), isFound = wanted.every((word) => name.includes(word));
      if (isFound) count += 1;
      const isKept = isFound && count <= MOST_NODES;
      const below = (node.children || []).map(visit).some(Boolean);
      if (isKept || below) kept.add(node);
      return isKept || below;
    };
    state.tree.children.forEach(visit);
    at("found").textContent = `${count.toLocaleString("en")} found${count > MOST_NODES ? `, ${MOST_NODES} shown` : ""}`;
    return kept;
  }

  function isShown(node, parent, { found, only }) {
    if (only) return only.has(node);
    return found.has(edge(parent, node.name)) || at("all").checked || (!state.rows.length && parent === "");
  }

  function shownOf(nodes, parent, view) {
    const shown = nodes.filter((node) => isShown(node, parent, view));
    if (view.only || shown.length <= LONG || state.tree.labels_below <= MANY) return shown;
    const path = (node) => (view.found.get(edge(parent, node.name)) || { path: -1 }).path;
    return shown.toSorted((one, other) => path(other) - path(one));
  }

  function fill(list, nodes, parent, view) {
    fillList(list, shownOf(nodes, parent, view), MOST_NODES, (node) => drawNode(node, parent, view));
  }

  function drawNode(node, parent, view) {
    const entry = view.found.get(edge(parent, node.name)), kind = kindOf(entry, view.labels);
    const item = make("li"), button = make("button", `node ${entry ? "visited" : ""} ${kind}`);
    button.type = "button";
    button.append(make("span", `mark ${kind}`, MARKS[kind]), make("span", "name", node.last_name));
    if (entry) button.append(meter(worth(entry), entry.threshold), make("span", "figure", worth(entry).toFixed(2)));
    button.setAttribute("aria-label", `${node.name}, ${SAID[kind]}${entry ? `, ${worth(entry).toFixed(2)} of ${entry.threshold.toFixed(2)}` : ""}`);
    for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, () => tell(state.picked, node, parent, entry, kind));
    item.append(button);
    const count = (node.children || []).filter((child) => isShown(child, node.name, view)).length;
    if (count) item.append(folded(button, node, count, edge(parent, node.name), view));
    return item;
  }

  // The children of a group, made when it is opened; shut at first where nothing in it was chosen.
  function folded(button, node, count, key, view) {
    const list = make("ul");
    const open = (now) => {
      if (now && !list.children.length) fill(list, node.children, node.name, view);
      list.hidden = !now;
      button.setAttribute("aria-expanded", String(now));
      button.querySelector(".fold").textContent = now ? "" : ` (${count} more)`;
    };
    button.querySelector(".name").append(make("span", "fold"));
    open(Boolean(view.only) || (state.open.has(key) ? state.open.get(key) : isOpen(node, key, view)));
    button.addEventListener("click", () => { state.open.set(key, list.hidden); open(list.hidden); });
    return list;
  }

  function isOpen(node, key, { found, toChosen }) {
    return toChosen.has(node.name) || (!found.has(key) && state.tree.labels_below <= MANY);
  }

  function reason(node, parent, entry, kind) {
    const lines = [make("b", "", node.name)];
    if (node.description) lines.push(make("div", "", node.description));
    lines.push(make("div", "", entry ? told(node, parent, entry, kind) : untold(node, parent)));
    return lines;
  }

  function told(node, parent, entry, kind) {
    const under = parent ? `of its group ${parent}, ${entry.conditional.toFixed(3)}` : `of all texts, ${entry.conditional.toFixed(3)}`;
    const reaches = worth(entry) >= entry.threshold ? "reaches" : "is below";
    const end = kind === "chosen" ? "chosen" : node.kind === "group"
      ? (entry.entered ? "so its children were looked at" : "so nothing below it was looked at")
      : (worth(entry) >= entry.threshold ? "but another of its group, or of its way, was the better one" : "so it is no answer");
    return `Score as one ${under}. Probability along the walk ${entry.path.toFixed(3)}${whence(entry)} ${reaches} the threshold ${entry.threshold.toFixed(3)}: ${end}.`;
  }

  // A label's probability is what all that speaks for it comes to, a group's that of its path.
  function worth(entry) {
    return entry.probability ?? entry.path;
  }

  function whence(entry) {
    if (entry.probability === undefined) return "";
    const second = entry.second === undefined ? "" : `, a second look at its words gives ${entry.second.toFixed(3)}`;
    const again = entry.before === undefined ? "" : `; in doubt (${entry.before.toFixed(3)}), so it was asked about again (${entry.yes === null ? "no answer" : `yes ${entry.yes.toFixed(3)}`})`;
    return `${second}${again}; all together, ${entry.probability.toFixed(3)}`;
  }

  function untold(node, parent) {
    if (!state.rows.length) return node.kind === "group" ? `A group with ${node.labels_below} labels.` : "A label.";
    return parent ? `Not visited: its group ${parent} was not entered.` : "Not visited.";
  }

  at("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  at("texts").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  at("all").addEventListener("change", draw);
  at("find").addEventListener("input", draw);

  function begin() {
    loadTree().then(() => say(""), (error) => say(error.message, true));
  }
  askForToken(begin);
  begin();
})();
