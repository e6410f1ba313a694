// Rows on pages, to sort by a heading and to pick from. One tab stop leads in; arrow keys go on from there.

function element(tag, text, more = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...more});
}

function cell(column, content) {
  const found = element("td", column.kind === "probability" ? content.toFixed(3) : content, {title: column.kind === "text" ? content : ""});
  if (column.kind !== "text") found.classList.add("number");
  if (column.kind === "probability") found.style.background = `linear-gradient(to right, rgba(0, 114, 178, .3) ${100 * content}%, transparent 0)`;
  return found;
}

function render({model, el}) {
  const bar = element("div", ""), frame = element("div", "", {className: "frame"});
  let refocus = null, drawn = "";  // returns what gets the focus after the next drawing; the order and page on the screen
  let sorting = false;  // another order was asked for, and its rows have not come yet
  el.classList.add("userllm-grid");
  el.replaceChildren(bar, frame);

  const ask = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const headings = () => [...frame.querySelectorAll("th button")];
  const rows = () => [...frame.querySelectorAll("tbody tr")];

  // --- one tab stop: the heading or row with tabIndex 0
  function stopAt(place) {
    frame.querySelectorAll("[tabindex='0']").forEach(other => { other.tabIndex = -1; });
    if (place) place.tabIndex = 0;
  }

  function walk(place) {
    if (!place) return;
    stopAt(place);
    place.focus();
  }

  function press(event, acts) {
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  function heading(column) {
    const [by, up] = model.get("order"), here = by === column.name;
    const found = element("th", "", {scope: "col", title: column.about});
    const button = element("button", column.name + (here ? (up ? " \u25b2" : " \u25bc") : ""), {tabIndex: -1});
    if (here) found.setAttribute("aria-sort", up ? "ascending" : "descending");
    button.dataset.name = column.name;
    button.onclick = () => {
      const [by, up] = model.get("order");
      refocus = () => headings().find(other => other.dataset.name === column.name);
      ask("order", by === column.name ? [by, !up] : [column.name, column.kind === "text"]);
    };
    button.onkeydown = event => {
      const all = headings(), place = all.indexOf(button);
      press(event, {ArrowLeft: () => walk(all[place - 1]), ArrowRight: () => walk(all[place + 1]), Home: () => walk(all[0]),
                    End: () => walk(all.at(-1)), ArrowDown: () => walk(rows()[0])});
    };
    found.append(button);
    return found;
  }

  function line(columns, key, cells, place) {
    const row = element("tr", "", {tabIndex: -1});
    row.dataset.key = key;
    row.setAttribute("aria-rowindex", place);
    row.append(...columns.map((column, number) => cell(column, cells[number])));
    row.onclick = () => {
      walk(row);
      ask("value", key);
    };
    row.onkeydown = event => {
      const all = rows(), here = all.indexOf(row), open = () => ask("value", key);
      press(event, {ArrowDown: () => walk(all[here + 1]), ArrowUp: () => walk(all[here - 1] ?? headings()[0]), Home: () => walk(all[0]),
                    End: () => walk(all.at(-1)), PageDown: () => turn(1), PageUp: () => turn(-1), Enter: open, " ": open});
    };
    return row;
  }

  function turn(by) {
    const page = model.get("page") + by;
    if (page < 0 || page >= model.get("shown").pages) return;
    const within = frame.contains(document.activeElement);
    const button = () => bar.querySelector(by < 0 ? "button:first-child:enabled" : "button:last-child:enabled") ?? bar.querySelector("button:enabled");
    refocus = within ? () => rows()[0] : button;
    ask("page", page);
  }

  // --- the open row and the sorted column stay in sight
  function mark() {
    const chosen = String(model.get("value"));
    rows().forEach(row => row.setAttribute("aria-selected", row.dataset.key === chosen));
    const open = rows().find(row => row.dataset.key === chosen);
    if (!frame.contains(document.activeElement)) stopAt(open ?? rows()[0] ?? headings()[0]);
    if (!open) return;
    const head = frame.querySelector("thead").offsetHeight;
    if (open.offsetTop - head < frame.scrollTop) frame.scrollTop = open.offsetTop - head;
    else if (open.offsetTop + open.offsetHeight > frame.scrollTop + frame.clientHeight) frame.scrollTop = open.offsetTop - head - frame.clientHeight / 3;
  }

  function showSorted() {
    const sorted = frame.querySelector("th[aria-sort]"), first = frame.querySelector("th");
    if (!sorted || sorted === first) return;
    const left = first.offsetWidth;  // stays in sight, over the others
    if (sorted.offsetLeft - left < frame.scrollLeft) frame.scrollLeft = sorted.offsetLeft - left;
    else if (sorted.offsetLeft + sorted.offsetWidth > frame.scrollLeft + frame.clientWidth)
      frame.scrollLeft = sorted.offsetLeft + sorted.offsetWidth - frame.clientWidth;
  }

  function drawBar(first, count, total, pages) {
    const page = model.get("page"), number = value => value.toLocaleString("en");
    const button = (text, label, by, there) => element("button", text, {ariaLabel: label, title: label, disabled: !there, onclick: () => turn(by)});
    const place = element("span", total ? ` ${number(first + 1)} to ${number(first + count)} of ${number(total)} ` : " no rows ");
    bar.replaceChildren(button("\u25c0", "earlier rows", -1, page > 0), place, button("\u25b6", "later rows", 1, page + 1 < pages));
  }

  function draw() {
    const {columns = [], keys = [], lines = [], first = 0, total = 0, pages = 1} = model.get("shown");
    drawBar(first, lines.length, total, pages);
    const table = element("table", "", {role: "grid", ariaLabel: "rows: arrow keys move, Enter opens a row or sorts by a heading"});
    const head = element("tr", "");
    head.append(...columns.map(heading));
    table.setAttribute("aria-rowcount", total + 1);
    table.createTHead().append(head);
    table.createTBody().append(...keys.map((key, number) => line(columns, key, lines[number], first + number + 2)));

    const active = frame.contains(document.activeElement) ? document.activeElement : null;
    const name = active?.dataset.name, key = active?.closest("tr")?.dataset.key;
    const same = other => name ? other.dataset.name === name : other.dataset.key === key;
    const again = refocus ?? (active ? () => [...headings(), ...rows()].find(same) : () => null);
    const order = JSON.stringify(model.get("order")), now = `${order} ${model.get("page")}`;
    const [left, top] = [frame.scrollLeft, now === drawn ? frame.scrollTop : 0];
    frame.replaceChildren(table);
    frame.scrollTo(left, top);
    mark();
    if (sorting) showSorted();
    drawn = now;
    const focused = again();
    if (frame.contains(focused)) walk(focused);
    else focused?.focus();
    refocus = null;
  }

  const reorder = () => {  // nothing changes where the rows are in that order already
    sorting = true;
    draw();
  };
  const refill = () => {
    draw();
    sorting = false;
  };
  model.on("change:shown", refill);
  model.on("change:order", reorder);
  model.on("change:value", mark);
  draw();
  return () => {
    model.off("change:shown", refill);
    model.off("change:order", reorder);
    model.off("change:value", mark);
  };
}
export default {render};
