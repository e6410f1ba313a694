// Lists side by side. One tab stop a column; arrow keys go up, down, and across to the same item; Enter picks.
// What is pointed at in one column is marked in the others. A line that changed its place moves there.

const CALM = "(prefers-reduced-motion: reduce)";

function element(tag, text = "", more = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...more});
}

function chip(text, kind, title) {
  return element("span", text, {className: `chip ${kind}`, title});
}

function render({model, el}) {
  const body = element("div", "", {className: "columns"}), spoken = element("div", "", {className: "spoken"});
  el.classList.add("userllm-lists");
  spoken.setAttribute("aria-live", "polite");
  el.replaceChildren(body, spoken);
  const lists = () => [...body.querySelectorAll(".lines")];
  const lines = list => [...list.querySelectorAll(".line")];
  const same = key => [...body.querySelectorAll(".line")].filter(line => line.dataset.key === key);

  // --- one tab stop a column
  function walk(line) {
    if (!line) return;
    lines(line.parentElement).forEach(other => { other.tabIndex = -1; });
    line.tabIndex = 0;
    line.focus({preventScroll: true});
    show(line);
  }

  function show(line) {  // within its column: the page stays where it is
    const list = line.parentElement, top = line.offsetTop - list.offsetTop;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + line.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top + line.offsetHeight - list.clientHeight;
  }

  function across(line, by) {
    const all = lists(), there = all[all.indexOf(line.parentElement) + by];
    if (there) walk(lines(there).find(other => other.dataset.key === line.dataset.key) ?? lines(there)[0]);
  }

  function pick(key) {
    model.set("value", key);
    model.save_changes();
  }

  function press(event, line) {
    const all = lines(line.parentElement), here = all.indexOf(line);
    const act = {
      ArrowDown: () => walk(all[here + 1]), ArrowUp: () => walk(all[here - 1]), Home: () => walk(all[0]), End: () => walk(all.at(-1)),
      ArrowLeft: () => across(line, -1), ArrowRight: () => across(line, 1),
      Enter: () => pick(line.dataset.key), " ": () => pick(line.dataset.key),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // --- one line
  function rankOf(line) {
    const rank = element("div", "", {className: "rank"});
    rank.append(element("b", line.among ? String(line.rank) : `(${line.rank})`));
    if (line.moved) rank.append(element("span", `${line.moved > 0 ? "\u25b2" : "\u25bc"}${Math.abs(line.moved)}`, {className: line.moved > 0 ? "up" : "down"}));
    return rank;
  }

  function textOf(line, column) {
    const text = element("div", "", {className: "text"}), chips = element("div", "", {className: "chips"});
    if (line.later) chips.append(chip(line.later === "liked later" ? "\u2605 liked later" : "\u2717 disliked later", line.later.split(" ")[0], "in the test rows, which no recommender has seen"));
    if (!line.among) chips.append(chip("not picked", "missed", "the retriever left it out; the rank is the one that it would take"));
    const {retriever} = model.get("about");
    if (column.other && line.other) chips.append(chip(`#${line.other} in ${column.other}`, "", `its rank in the list of ${column.other}`));
    if (![column.name, column.other].includes(retriever))
      chips.append(chip(`retrieved #${line.retrieved}`, "faint", `its rank by ${retriever}, which picked the candidates, among all unseen items`));
    text.append(element("div", line.title, {className: "title", title: line.title}), element("div", line.about, {className: "about", title: line.about}), chips);
    return text;
  }

  function chanceOf(line) {
    const chance = element("div", "", {className: "chance", title: "P(Yes)"}), frame = element("div", "", {className: "bar"}), bar = element("div");
    bar.style.width = `${100 * line.probability}%`;
    frame.append(bar);
    chance.append(element("b", line.probability.toFixed(2)), frame, element("span", line.change, {className: "change"}));
    return chance;
  }

  function drawLine(line, column, number) {
    const {fold} = model.get("about");
    const row = element("div", "", {className: "line", tabIndex: number ? -1 : 0, ariaLabel: line.words});
    row.setAttribute("role", "option");
    row.dataset.key = line.key;
    if (line.later) row.classList.add(line.later.split(" ")[0]);
    if (!line.among) row.classList.add("outside");
    const next = column.lines.slice(number + 1).find(other => other.among);
    if (line.rank <= fold && next && next.rank > fold && column.lines[number + 1].rank > fold) row.classList.add("fold");
    const picture = element("img", "", {alt: "", src: model.get("posters")[line.key] ?? "", loading: "lazy"});
    row.append(rankOf(line), picture, textOf(line, column), chanceOf(line));
    row.onclick = () => { walk(row); pick(line.key); };
    row.onkeydown = event => press(event, row);
    row.onpointerenter = () => same(line.key).forEach(other => other.classList.add("pointed"));
    row.onpointerleave = () => same(line.key).forEach(other => other.classList.remove("pointed"));
    return row;
  }

  // --- where the items are that the person liked later
  function drawLater(column, list) {
    const place = element("div", "", {className: "later"}), later = column.lines.filter(line => line.later === "liked later");
    place.append(element("span", later.length ? "Liked later:" : "The test rows hold no like of this person."));
    for (const line of later) {
      const rank = line.among ? `#${line.rank}` : `(#${line.rank})`;
      const button = element("button", "", {title: line.words, ariaLabel: `go to ${line.words}`, className: line.rank <= model.get("about").fold && line.among ? "found" : ""});
      button.append(element("b", rank), element("span", line.title));
      button.onclick = () => walk(lines(list).find(row => row.dataset.key === line.key));
      place.append(button);
    }
    return place;
  }

  function drawColumn(column) {
    const part = element("section", "", {className: "column", ariaLabel: column.name});
    const list = element("div", "", {className: "lines", ariaLabel: `${column.name}, best first: arrow keys move, left and right go to the other list, Enter picks`});
    list.setAttribute("role", "listbox");
    list.append(...column.lines.map((line, number) => drawLine(line, column, number)));
    part.append(element("h4", column.name), element("p", column.note, {className: "note"}), drawLater(column, list), list);
    return part;
  }

  // --- all of it, with what moved on its way
  function places() {
    return lists().map(list => new Map(lines(list).map(line => [line.dataset.key, line.offsetTop])));
  }

  function glide(before) {
    if (matchMedia(CALM).matches) return;
    lists().forEach((list, number) => lines(list).forEach(line => {
      const old = before[number]?.get(line.dataset.key);
      if (old === undefined || old === line.offsetTop) return;
      const far = Math.max(-600, Math.min(600, old - line.offsetTop));
      line.animate([{transform: `translateY(${far}px)`}, {transform: "none"}], {duration: 450, easing: "ease-out"});
    }));
  }

  function draw() {
    const columns = model.get("columns"), before = places(), scrolled = lists().map(list => list.scrollTop);
    const active = body.contains(document.activeElement) ? document.activeElement.closest(".line") : null;
    const [key, column] = [active?.dataset.key, active ? lists().indexOf(active.parentElement) : -1];
    body.replaceChildren(...columns.map(drawColumn));
    el.hidden = !columns.length;
    lists().forEach((list, number) => { list.scrollTop = scrolled[number] ?? 0; });
    if (column >= 0 && lists()[column]) walk(lines(lists()[column]).find(line => line.dataset.key === key));
    if (before.length === columns.length) glide(before);
    const moved = columns.map(column => `${column.name}: ${column.lines.filter(line => line.moved).length} moved`);
    spoken.textContent = columns.some(column => column.lines.some(line => line.moved)) ? moved.join(", ") : "";
    mark();
  }

  function mark() {
    const chosen = String(model.get("value"));
    body.querySelectorAll(".line").forEach(line => line.setAttribute("aria-selected", line.dataset.key === chosen));
    lists().filter(list => !list.contains(document.activeElement)).forEach(list => {
      const line = lines(list).find(line => line.dataset.key === chosen);
      if (line) show(line);
    });
  }

  model.on("change:columns", draw);
  model.on("change:value", mark);
  draw();
  return () => {
    model.off("change:columns", draw);
    model.off("change:value", mark);
  };
}
export default {render};
