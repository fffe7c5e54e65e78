// The labels to choose from: a tree whose groups are made when they are opened, and a search over all of them.
const FEW = 40;  // with no more labels than these all groups are open at first
const MOST_LINES = 200;  // so many at once, of a group as of what is found

// `row` tells of what is shown: digits, scores, thresholds, what is chosen; and takes what is chosen or pointed at.
function labelChoices(root, row) {
  let tree = null, entries = [], digits = new Map(), opened = new Set();

  const inWords = (text) => text.toLowerCase().replaceAll("_", " ");

  // One for each line that can be chosen, in the order of the tree.
  function learn(found) {
    tree = found;
    entries = [];
    index(tree, []);
  }

  function index(group, above) {
    for (const node of group.children) {
      const entry = { node, name: inWords(node.last_name), words: inWords(`${node.name} ${node.description || ""}`) };
      if (node.kind === "label") entries.push({ ...entry, above });
      else if (!node.repeated) {
        const below = [...above, node];
        index(node, below);
        entries.push({ ...entry, above: below });
      }
    }
  }

  // The tree, open where something is chosen or suggested.
  function draw() {
    digits = row.digits();
    opened = row.openGroups([...digits.keys()]);
    const list = make("ul");
    fillList(list, inOrder(tree.children), MOST_LINES, itemOf);
    root.replaceChildren(list);
  }

  // Of a long list what is chosen or suggested stands first, to be in the part that is made.
  function inOrder(nodes) {
    if (nodes.length <= MOST_LINES) return nodes;
    const isFirst = (node) => row.isChosen(node.name) || digits.has(node.name) || opened.has(node.name);
    return [...nodes.filter(isFirst), ...nodes.filter((node) => !isFirst(node))];
  }

  const itemOf = (node) => (node.kind === "label" ? lineOf(node) : groupOf(node));

  function groupOf(node) {
    const [item, details, list] = shut(node);
    const open = () => {
      if (!list.children.length && !node.repeated) fillList(list, inOrder(node.children), MOST_LINES, itemOf, [lineOf(node)]);
    };
    details.addEventListener("toggle", () => { if (details.open) open(); });
    if (tree.labels_below <= FEW || opened.has(node.name)) {
      open();
      details.open = true;
    }
    return item;
  }

  function shut(node) {
    const item = make("li"), details = make("details"), summary = make("summary", "group", node.last_name), list = make("ul");
    if (node.description) summary.title = node.description;
    if (node.choose === "one") summary.append(make("span", "quiet", " (one of these)"));
    if (node.repeated) summary.append(make("span", "quiet", " (its labels stand above)"));
    details.append(summary, list);
    item.append(details);
    return [item, details, list];
  }

  // A box with its name, digit, bar and figure.
  function lineOf(node) {
    const isGroup = node.kind === "group", item = make("li"), line = make("label", isGroup ? "choice alone" : "choice");
    const box = make("input"), bar = make("span", "bar"), score = row.scoreOf(node.name);
    const name = make("span", "name", isGroup ? `${node.last_name}, and no more is known` : node.last_name);
    box.type = "checkbox";
    box.value = node.name;
    box.checked = row.isChosen(node.name);
    box.addEventListener("change", () => row.choose(node.name, box.checked));
    if (digits.has(node.name)) name.prepend(make("kbd", "", String(digits.get(node.name))));
    if (score !== undefined) bar.append(meter(score, node.threshold));
    line.append(box, name, bar, make("span", "figure", score === undefined ? "" : score.toFixed(2)));
    if (node.description) line.title = node.description;
    line.addEventListener("mouseenter", () => row.point(node.name));
    item.append(line);
    return item;
  }

  // Boxes as by now is chosen.
  function refresh() {
    for (const box of root.querySelectorAll("input")) box.checked = row.isChosen(box.value);
  }

  // Search

  // What has all the words, as the tree has it; of more than can be shown what is called most like it. Gives the counts.
  function search(text) {
    const said = inWords(text.trim()), wanted = said.split(/\s+/).filter(Boolean);
    if (!wanted.length) { draw(); return null; }
    const found = entries.filter(({ words }) => wanted.every((word) => words.includes(word)));
    const rank = ({ name }) => (name === said ? 0 : name.startsWith(said) ? 1 : 2);
    const best = found.toSorted((one, other) => rank(one) - rank(other)).slice(0, MOST_LINES), shown = new Set(best);
    const lines = drawFound(found.filter((entry) => shown.has(entry)));
    activate(best.length ? lines.get(best[0]) : null);
    return { found: found.length, shown: best.length };
  }

  function drawFound(shown) {
    const list = make("ul"), lists = new Map(), lines = new Map();
    const listOf = (above) => {
      if (!above.length) return list;
      const key = above.map((group) => group.name).join("\n");
      if (!lists.has(key)) {
        const [item, details, inner] = shut(above.at(-1));
        details.open = true;
        listOf(above.slice(0, -1)).append(item);
        lists.set(key, inner);
      }
      return lists.get(key);
    };
    for (const entry of shown) {
      const item = lineOf(entry.node);
      listOf(entry.above).append(item);
      lines.set(entry, item.firstChild);
    }
    root.replaceChildren(list);
    return lines;
  }

  // The line that the keys are at

  const lines = () => [...root.querySelectorAll(".choice")].filter((line) => line.offsetParent !== null);
  const active = () => root.querySelector(".choice.active");

  function activate(line) {
    const before = active();
    if (before) before.classList.remove("active");
    if (!line) return;
    line.classList.add("active");
    line.scrollIntoView({ block: "nearest" });
  }

  function move(by) {
    const shown = lines();
    activate(shown[Math.min(Math.max(shown.indexOf(active()) + by, 0), shown.length - 1)]);
  }

  function chooseActive() {
    const line = active();
    if (!line) return false;
    const box = line.querySelector("input");
    row.choose(box.value, !box.checked);
    return true;
  }

  return { learn, draw, refresh, search, move, chooseActive };
}
