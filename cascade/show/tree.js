"use strict";
(() => {
  const form = document.querySelector("form");
  const input = form.querySelector("input");
  const output = form.querySelector("output");
  const details = [...document.querySelectorAll("details")];
  const atFirst = details.map((one) => one.open);
  // Without the top, as in a name that is a path.
  const pathTo = (item) => {
    const above = item.parentElement.closest("li");
    if (!above) return "";
    return `${pathTo(above)}/${item.querySelector(".name").textContent}`;
  };
  const textOf = (node) => [...node.children].map((one) => one.textContent).join("\n").toLowerCase();
  const items = [...document.querySelectorAll("main li")].map((item) => {
    const node = item.querySelector(".node");
    const parent = item.parentElement.closest("li");
    return { item, node, text: textOf(node), path: pathTo(item).toLowerCase(), parent };
  });
  const marked = new Set();

  const unmark = () => {
    for (const name of marked) name.textContent = name.textContent;
    marked.clear();
  };
  const mark = (node, wanted) => {
    const name = node.querySelector(".name");
    const text = name.textContent;
    const at = text.toLowerCase().indexOf(wanted);
    // Where small letters are more characters than capitals, places do not agree.
    if (at < 0 || text.length !== text.toLowerCase().length) return;
    const found = document.createElement("mark");
    found.textContent = text.slice(at, at + wanted.length);
    name.replaceChildren(text.slice(0, at), found, text.slice(at + wanted.length));
    marked.add(name);
  };
  const search = () => {
    const wanted = input.value.trim().toLowerCase();
    unmark();
    if (!wanted) {
      for (const { item } of items) item.hidden = false;
      details.forEach((one, place) => { one.open = atFirst[place]; });
      output.textContent = "";
      return;
    }
    const shown = new Set();
    let count = 0;
    for (const { item, node, text, path } of items) {
      // What is below a group would be found by the name of the group, if paths were always looked at.
      if (!text.includes(wanted) && !(wanted.includes("/") && path.includes(wanted))) continue;
      count += 1;
      mark(node, wanted);
      for (let one = item; one && !shown.has(one); one = one.parentElement.closest("li")) shown.add(one);
    }
    for (const { item, parent } of items) {
      item.hidden = !shown.has(item);
      if (parent && shown.has(item)) parent.querySelector("details").open = true;
    }
    output.textContent = `${count} of ${items.length} found`;
  };
  const all = (open) => () => details.forEach((one) => { one.open = open; });

  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", search);
  document.getElementById("open").addEventListener("click", all(true));
  document.getElementById("close").addEventListener("click", all(false));
  form.hidden = false;
})();
