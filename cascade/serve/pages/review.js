(() => {
  const MOST_SUGGESTED = 9, MOST_DOUBTS = 4;
  const state = { tree: null, parents: new Map(), nodes: new Map(), row: null, chosen: new Set(), counts: null, busy: false };
  // The same for as long as this tab lives, so that its row is its own after the page was loaded anew.
  const tab = sessionStorage.getItem("tab") || crypto.randomUUID();
  sessionStorage.setItem("tab", tab);

  // What this tab answered, the last at the end, to be taken back.
  const past = {
    all: () => JSON.parse(sessionStorage.getItem("past") || "[]"),
    keep: (entries) => sessionStorage.setItem("past", JSON.stringify(entries.slice(-200))),
  };

  // What was chosen and not taken yet outlives a reload.
  const draft = {
    name: () => `draft:${state.row.key}`,
    keep() {
      if (isAsFound()) sessionStorage.removeItem(this.name());
      else sessionStorage.setItem(this.name(), JSON.stringify({ labels: [...state.chosen], note: at("note").value }));
    },
    read() { return JSON.parse(sessionStorage.getItem(this.name()) || "null"); },
    forget() { sessionStorage.removeItem(this.name()); },
  };

  // Another model may have come since, that lacks some of the names.
  const known = (names) => names.filter((name) => state.nodes.has(name));
  const foundLabels = (row) => known(row.said && row.said.verdict !== "skipped" ? row.said.labels : row.proposed);
  const foundNote = (row) => (row.said ? row.said.note : "");
  const isSame = (labels) => labels.length === state.chosen.size && labels.every((name) => state.chosen.has(name));
  const isAsFound = () => isSame(foundLabels(state.row)) && at("note").value === foundNote(state.row);

  // The taxonomy

  function learn(node, parent) {
    if (!state.nodes.has(node.name)) state.nodes.set(node.name, { node, parents: [] });
    if (parent) state.nodes.get(node.name).parents.push(parent);
    for (const child of node.children || []) learn(child, node);
  }

  function groupsAbove(name, found = new Set()) {
    for (const parent of (state.nodes.get(name) || { parents: [] }).parents) {
      if (parent === state.tree || found.has(parent.name)) continue;
      found.add(parent.name);
      groupsAbove(parent.name, found);
    }
    return found;
  }

  // A label says more than its groups do, and of some groups only one child is right.
  function choose(name, now) {
    if (!now) state.chosen.delete(name);
    else {
      for (const group of groupsAbove(name)) state.chosen.delete(group);
      for (const other of [...state.chosen]) if (groupsAbove(other).has(name)) state.chosen.delete(other);
      for (const parent of (state.nodes.get(name) || { parents: [] }).parents) {
        if (parent.choose === "one") for (const child of parent.children) if (child.kind === "label") state.chosen.delete(child.name);
      }
      state.chosen.add(name);
    }
    draft.keep();
    drawChoice();
  }

  function suggested() {
    if (!state.row) return [];
    const scores = state.row.scores;
    const asked = state.row.doubts.filter((one) => one.reason === "label split").map((one) => one.label);
    const others = Object.keys(scores).filter((name) => !asked.includes(name));
    return [...asked, ...others.sort((one, other) => scores[other] - scores[one])].slice(0, MOST_SUGGESTED);
  }

  const choices = labelChoices(at("choices"), {
    digits: () => new Map(suggested().map((name, place) => [name, place + 1])),
    scoreOf: (name) => (state.row ? state.row.scores[name] : undefined),
    isChosen: (name) => state.chosen.has(name),
    choose,
    point: markWords,
    // A group stands in itself too, for when no more is known.
    openGroups: (names) => new Set([...names, ...state.chosen].flatMap((name) => [name, ...groupsAbove(name)])),
  });

  function drawChoice() {
    choices.refresh();
    const names = [...state.chosen];
    at("chips").replaceChildren(...(names.length ? names.map(chip) : [make("li", "none", "none of them")]));
    const take = at("take"), same = isSame(state.row.proposed);
    take.replaceChildren(state.row.said ? "Keep this " : same ? "Accept " : "Take the correction ", make("kbd", "", "Enter"));
  }

  function chip(name) {
    const item = make("li"), added = !state.row.proposed.includes(name);
    const button = make("button", added ? "added" : "", `${added ? "+" : "✓"} ${name} ×`);
    button.type = "button";
    button.setAttribute("aria-label", `Take ${name} away`);
    button.addEventListener("click", () => { choose(name, false); at("row-heading").focus(); });
    button.addEventListener("mouseenter", () => markWords(name));
    item.append(button);
    return item;
  }

  // The words that spoke for a label and against it are marked in the text.
  let marking = 0;
  async function markWords(name) {
    const turn = ++marking, text = state.row.text, steps = await explained(text);
    if (!steps || turn !== marking || state.row.text !== text) return;
    const ways = [...steps.values()].filter((step) => step.node === name);
    const step = ways.find((one) => one.counts) || ways[0];
    at("text").replaceChildren(...marked(text, step));
    at("marked").replaceChildren(...(step ? [`${name}: `, pushes(step)] : [`${name} was not looked at, as its group was not entered`]));
  }

  // Search

  function search() {
    const told = choices.search(at("search").value);
    const more = told && told.found > told.shown ? `, ${told.shown} shown: write more of the name` : "";
    at("matches").textContent = told ? `${told.found.toLocaleString("en")} found${more}` : "";
  }

  function searchKey(event) {
    if (event.key === "ArrowDown") choices.move(1);
    else if (event.key === "ArrowUp") choices.move(-1);
    else if (event.key === "Enter" && choices.chooseActive()) { /* done */ }
    else if (event.key === "Escape") leaveSearch();
    else return;
    event.preventDefault();
  }

  function leaveSearch() {
    at("search").value = "";
    search();
    at("row-heading").focus();
  }

  // Rows

  async function show(told) {
    if (told.row && told.model !== state.model) await learnTaxonomy();
    if (told.counts) drawCounts(told.counts);
    state.row = told.row;
    at("conflict").hidden = true;
    // Nothing can be chosen before there is a row to choose it for: it would be gone when one comes.
    at("card").hidden = at("work").hidden = at("labels").inert = !state.row;
    if (!state.row) { at("row-heading").textContent = "Nothing is left to look at"; drawUndo(); return; }
    const { row } = state, kept = draft.read();
    state.chosen = new Set(kept ? known(kept.labels) : foundLabels(row));
    at("note").value = kept ? kept.note : foundNote(row);
    at("note-part").hidden = !at("note").value;
    at("row-heading").textContent = `Row ${row.place} of ${state.total}`;
    at("where").textContent = `id ${row.id}${row.said ? `, ${row.said.verdict}` : ""}`;
    at("text").replaceChildren(row.text);
    at("text").scrollTop = 0;
    at("marked").replaceChildren("Point at a label to see the words for it and against it.");
    drawDoubts(row.doubts);
    at("search").value = "";
    search();
    drawChoice();
    drawUndo();
    for (const button of at("all").querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.key === row.key));
    at("row-heading").focus({ preventScroll: true });
  }

  const REASONS = {
    "near threshold": "near their thresholds",
    "parents disagree": "groups disagree about",
    "nothing chosen": "no label reached its threshold",
    "label split": "a label became several, of which one is meant",
    "not sure": "not sure enough of",
  };

  // A line for each reason, with the labels that it is about.
  function drawDoubts(doubts) {
    const reasons = Map.groupBy(doubts, (one) => one.reason);
    at("doubts").replaceChildren(...[...reasons].map(([reason, ones]) => {
      const names = ones.map((one) => one.label).filter(Boolean), more = names.length - MOST_DOUBTS;
      const told = names.slice(0, MOST_DOUBTS).join(", ") + (more > 0 ? ` and ${more} more` : "");
      return make("li", "", (REASONS[reason] || reason) + (told && `: ${told}`));
    }));
  }

  function drawCounts(counts) {
    state.counts = counts;
    const total = counts.accepted + counts.corrected + counts.skipped + counts.left;
    state.total = total;
    at("progress").replaceChildren(...["accepted", "corrected", "skipped"].map((name) => {
      const part = make("span", name);
      part.style.width = `${(100 * counts[name]) / Math.max(total, 1)}%`;
      return part;
    }));
    const told = `${counts.accepted} accepted, ${counts.corrected} corrected, ${counts.skipped} skipped, ${counts.left} left`;
    at("counts").textContent = told;
    at("progress").setAttribute("aria-label", told);
  }

  const drawUndo = () => { at("undo").disabled = !past.all().length; };

  // One thing at a time: a second press while the first is on its way does nothing.
  async function alone(act) {
    if (state.busy) return;
    state.busy = true;
    try {
      await act();
    } catch (error) {
      say(error.status ? error.message : `Not kept: the service does not answer. Try again once it does. (${error.message})`, true);
    } finally {
      state.busy = false;
    }
  }

  const pathOf = (key) => `/v1/review/rows/${encodeURIComponent(key)}`;
  const next = async (after) => show(await fetched("/v1/review/next", { tab, after: after || "" }));

  async function put(answer, seen) {
    const { row } = state, labels = [...state.chosen];
    try {
      const told = await fetched(pathOf(row.key), { ...answer, note: at("note").value, seen, model: row.model }, "PUT");
      draft.forget();
      past.keep([...past.all(), { key: row.key, revision: told.row.said.revision, labels, note: at("note").value }]);
      say(`Row ${row.place} ${told.row.said.verdict}`);
      await next(row.key);
      if (at("rows").open) await drawAll();
    } catch (error) {
      if (error.status === 422) {
        await learnTaxonomy();
        state.chosen = new Set(known([...state.chosen]));
        choices.draw();
        drawChoice();
      }
      if (error.status !== 409) throw error;
      tellConflict(answer, error.body.said);
    }
  }

  function tellConflict(answer, said) {
    const box = at("conflict"), theirs = make("button", "", "Keep theirs"), mine = make("button", "", "Take mine");
    const told = said ? `${said.verdict}${said.verdict === "skipped" ? "" : `: ${said.labels.join(", ") || "none of them"}`}` : "taken back";
    theirs.type = mine.type = "button";
    theirs.addEventListener("click", () => alone(async () => { draft.forget(); await next(state.row.key); }));
    mine.addEventListener("click", () => alone(() => put(answer, said ? said.revision : "")));
    const actions = make("div", "actions");
    actions.append(theirs, mine);
    box.replaceChildren(make("b", "", "Somebody else has answered this row meanwhile. "), make("span", "", told), actions);
    box.hidden = false;
    theirs.focus();
  }

  const seen = () => (state.row.said ? state.row.said.revision : "");
  const take = () => alone(() => put({ labels: [...state.chosen] }, seen()));
  const skip = () => alone(() => put({ skip: true }, seen()));

  const undo = () => alone(async () => {
    const entries = past.all(), last = entries.pop();
    if (!last) return;
    past.keep(entries);
    try {
      const told = await fetched(`${pathOf(last.key)}?seen=${encodeURIComponent(last.revision)}`, undefined, "DELETE");
      sessionStorage.setItem(`draft:${last.key}`, JSON.stringify({ labels: last.labels, note: last.note }));
      await show(told);
      say(`Row ${told.row.place} is as it was`);
    } catch (error) {
      if (error.status !== 409 && error.status !== 404) { past.keep([...entries, last]); throw error; }
      say("That row was answered anew elsewhere, and stays.", true);
      drawUndo();
    }
    if (at("rows").open) await drawAll();
  });

  function annotate() {
    at("note-part").hidden = false;
    at("note").focus();
  }

  // All rows

  const MARKS = { accepted: "✓", corrected: "✎", skipped: "↷", left: "·" };

  async function drawAll() {
    const told = await fetched("/v1/review"), which = at("which").value;
    drawCounts(told.counts);
    const wanted = told.rows.filter((row) => {
      const kind = row.verdict === null ? "left" : row.verdict === "skipped" ? "skipped" : "answered";
      return !which || which === kind;
    });
    at("all").replaceChildren(...wanted.map((row) => {
      const item = make("li"), button = make("button"), verdict = row.verdict || "left";
      button.type = "button";
      button.dataset.key = row.key;
      button.setAttribute("aria-current", String(state.row !== null && state.row.key === row.key));
      button.setAttribute("aria-label", `${verdict}: ${row.beginning}`);
      button.append(make("span", "", MARKS[verdict]), make("span", "beginning", row.beginning || "(empty)"));
      button.addEventListener("click", () => alone(async () => show(await fetched(pathOf(row.key)))));
      item.append(button);
      return item;
    }));
  }

  // Keys

  const KEYS = { Enter: take, s: skip, u: undo, n: annotate, "/": () => at("search").focus() };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event, isWriting = target.matches("textarea, input:not([type=checkbox]), select");
    if (event.key === "Escape" && target === at("note")) { at("row-heading").focus(); return; }
    if (isWriting || (event.key === "Enter" && target.matches("button, summary, a, input"))) return;
    if (event.key === "u") undo();
    else if (!state.row) return;
    else if (/^[1-9]$/.test(event.key)) {
      const name = suggested()[Number(event.key) - 1];
      if (!name) return;
      choose(name, !state.chosen.has(name));
    } else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
    else return;
    event.preventDefault();
  });

  at("search").addEventListener("input", search);
  at("search").addEventListener("keydown", searchKey);
  at("note").addEventListener("input", () => draft.keep());
  at("note").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); take(); }
  });
  at("take").addEventListener("click", take);
  at("skip").addEventListener("click", skip);
  at("undo").addEventListener("click", undo);
  at("annotate").addEventListener("click", annotate);
  at("rows").addEventListener("toggle", () => { if (at("rows").open) alone(drawAll); });
  at("which").addEventListener("change", () => alone(drawAll));

  // The names of the model that answers by now; another one may have other labels.
  async function learnTaxonomy() {
    const told = await fetched("/v1/taxonomy");
    state.model = told.model;
    state.tree = told.tree;
    state.nodes.clear();
    explanations.clear();
    learn(told.tree, null);
    at("model").textContent = told.name;
    at("entry").hidden = true;
    choices.learn(told.tree);
    choices.draw();
  }

  const begin = () => alone(async () => {
    await learnTaxonomy();
    await next("");
    say("");
  });

  // Whoever goes away leaves the row to others; a beacon could not carry the token.
  addEventListener("pagehide", () => {
    if (state.row) fetch("/v1/review/release", { ...request({ tab }), keepalive: true }).catch(() => {});
  });
  addEventListener("pageshow", (event) => { if (event.persisted) begin(); });
  askForToken(begin);
  begin();
})();
