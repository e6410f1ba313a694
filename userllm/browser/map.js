// A map of points: box or lasso to select, click to pick, drag to move, wheel and keys to zoom, a card on hover, a legend that hides kinds.
// The kernel sends what is drawn. The browser answers with `picked` alone, which no hover changes: a number that grows, and indices of points.

const SIGNS = {  // within a circle of radius 1
  circle: "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z",
  ring: "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0ZM.45 0A.45 .45 0 1 0 -.45 0A.45 .45 0 1 0 .45 0Z",
  square: "M-.85 -.85H.85V.85H-.85Z",
  diamond: "M0 -1.2L1.2 0L0 1.2L-1.2 0Z",
  plus: "M-.4 -1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  up: "M0 -1.15L1.1 .85H-1.1Z",
  down: "M0 1.15L1.1 -.85H-1.1Z",
  star: "M0 -1.3L.34 -.42L1.24 -.4L.54 .16L.76 1.05L0 .52L-.76 1.05L-.54 .16L-1.24 -.4L-.34 -.42Z",
};
const MARGIN = {left: 52, right: 12, top: 10, bottom: 40};
const RINGS = 30;  // up to so many chosen points are ringed; where there are more, the others are dimmed
const REACH = 12;  // pixels: a click within this distance means the point
const RADIUS = 4;

function element(tag, text = "", more = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...more});
}

function signOf(kind) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  Object.entries({viewBox: "-1.5 -1.5 3 3", width: 12, height: 12, "aria-hidden": true}).forEach(([name, value]) => svg.setAttribute(name, value));
  path.setAttribute("d", SIGNS[kind.sign]);
  path.setAttribute("fill", kind.colour);
  svg.append(path);
  return svg;
}

function inside(polygon, x, y) {
  let found = false;
  polygon.forEach(([x1, y1], place) => {
    const [x2, y2] = polygon.at(place - 1);
    if ((y1 > y) !== (y2 > y) && x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)) found = !found;
  });
  return found;
}

function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  return Array.from({length: count}, (_, place) => (first + place) * step).map(value => [value, value.toFixed(digits).replace(/^-(0(\.0+)?)$/, "$1")]);
}

function render({model, el}) {
  const tools = element("div", "", {className: "tools"}), plot = element("div", "", {className: "plot"});
  const canvas = element("canvas", "", {tabIndex: 0}), card = element("div", "", {className: "card", hidden: true});
  const legend = element("div", "", {className: "legend"}), spoken = element("div", "", {className: "spoken"});
  const hidden = new Set();
  let xs = [], ys = [], mode = "box", frame = null, hovered = -1, drawn = null, size = [0, 0];
  el.classList.add("userllm-map");
  canvas.setAttribute("role", "application");
  spoken.setAttribute("aria-live", "polite");
  plot.append(canvas, card);
  el.replaceChildren(tools, plot, legend, spoken);

  // --- from data to the screen and back
  const across = () => size[0] - MARGIN.left - MARGIN.right;
  const down = () => size[1] - MARGIN.top - MARGIN.bottom;
  const toX = x => MARGIN.left + (x - frame.left) / (frame.right - frame.left) * across();
  const toY = y => MARGIN.top + (frame.top - y) / (frame.top - frame.bottom) * down();
  const seen = place => !hidden.has(model.get("look").kinds[place]);
  canvas.place = place => {  // where a point is on the screen
    const box = canvas.getBoundingClientRect();
    return [box.x + toX(xs[place]), box.y + toY(ys[place])];
  };

  function whole() {
    const reach = values => values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const [left, right] = reach(xs), [bottom, top] = reach(ys);
    const wide = (right - left || 1) * 0.05, high = (top - bottom || 1) * 0.05;
    frame = {left: left - wide, right: right + wide, bottom: bottom - high, top: top + high};
  }

  function zoom(factor, x = MARGIN.left + across() / 2, y = MARGIN.top + down() / 2) {
    const partX = (x - MARGIN.left) / across(), partY = (y - MARGIN.top) / down();
    const width = frame.right - frame.left, height = frame.top - frame.bottom;
    const left = frame.left + width * partX * (1 - factor), top = frame.top - height * partY * (1 - factor);
    frame = {left, right: left + width * factor, top, bottom: top - height * factor};
    draw();
  }

  function move(x, y) {
    const right = -x / across() * (frame.right - frame.left), up = y / down() * (frame.top - frame.bottom);
    frame = {left: frame.left + right, right: frame.right + right, top: frame.top + up, bottom: frame.bottom + up};
    draw();
  }

  function nearest(x, y, reach, wanted = () => true) {
    let best = -1, least = reach * reach;
    for (let place = 0; place < xs.length; place++) {
      const across = toX(xs[place]) - x, down = toY(ys[place]) - y, far = across * across + down * down;
      if (far < least && seen(place) && wanted(across, down)) {
        best = place;
        least = far;
      }
    }
    return best;
  }

  // --- drawing
  function draw() {
    if (!frame || !size[0]) return;
    const style = getComputedStyle(el), pen = canvas.getContext("2d"), sharp = window.devicePixelRatio || 1;
    const ink = style.color, faint = style.getPropertyValue("--userllm-map-line");
    canvas.width = size[0] * sharp;
    canvas.height = size[1] * sharp;
    pen.scale(sharp, sharp);
    pen.font = `12px ${style.fontFamily}`;
    drawAxes(pen, ink, faint);
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left, MARGIN.top, across(), down());
    pen.clip();
    drawPoints(pen);
    drawChosen(pen, ink);
    if (drawn) drawArea(pen, ink);
    pen.restore();
  }

  function drawAxes(pen, ink, faint) {
    const [nameX, nameY] = model.get("axes"), bottom = size[1] - MARGIN.bottom;
    pen.fillStyle = ink;
    pen.strokeStyle = faint;
    pen.textAlign = "center";
    for (const [value, text] of ticks(frame.left, frame.right, Math.max(2, across() / 90))) {
      pen.strokeRect(toX(value), MARGIN.top, 0, down());
      pen.fillText(text, toX(value), bottom + 15);
    }
    pen.fillText(nameX, MARGIN.left + across() / 2, bottom + 33, across());
    for (const [value, text] of ticks(frame.bottom, frame.top, Math.max(2, down() / 60))) {
      pen.strokeRect(MARGIN.left, toY(value), across(), 0);
      pen.textAlign = "right";
      pen.fillText(text, MARGIN.left - 5, toY(value) + 4);
    }
    pen.save();
    pen.textAlign = "center";
    pen.translate(12, MARGIN.top + down() / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(nameY, 0, 0, down());
    pen.restore();
  }

  function drawPoints(pen) {
    const {colours, signs} = model.get("look"), chosen = new Set(model.get("chosen"));
    const paths = Object.fromEntries(Object.entries(SIGNS).map(([name, path]) => [name, new Path2D(path)]));
    for (let place = 0; place < xs.length; place++) {
      if (!seen(place)) continue;
      pen.save();
      pen.globalAlpha = chosen.size > RINGS && !chosen.has(place) ? 0.15 : 0.9;
      pen.translate(toX(xs[place]), toY(ys[place]));
      pen.scale(RADIUS, RADIUS);
      pen.fillStyle = colours[place];
      pen.fill(paths[signs[place]]);
      pen.restore();
    }
  }

  function drawChosen(pen, ink) {
    const chosen = model.get("chosen"), near = model.get("near");
    const ring = (place, radius) => {
      pen.beginPath();
      pen.arc(toX(xs[place]), toY(ys[place]), radius, 0, 2 * Math.PI);
      pen.stroke();
    };
    pen.strokeStyle = pen.fillStyle = ink;
    pen.textAlign = "left";
    pen.lineWidth = 1;
    near.forEach((place, rank) => {  // a line and a number to each neighbour
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(toX(xs[chosen[0]]), toY(ys[chosen[0]]));
      pen.lineTo(toX(xs[place]), toY(ys[place]));
      pen.stroke();
      ring(place, 7);
      pen.fillText(rank + 1, toX(xs[place]) + 8, toY(ys[place]) - 6);
    });
    pen.setLineDash([]);
    pen.lineWidth = 2;
    if (chosen.length <= RINGS) chosen.filter(seen).forEach(place => ring(place, 8));
    if (hovered >= 0) {
      pen.lineWidth = 1.5;
      pen.strokeRect(toX(xs[hovered]) - 7, toY(ys[hovered]) - 7, 14, 14);
    }
  }

  function drawArea(pen, ink) {
    pen.strokeStyle = ink;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    area().forEach(([x, y]) => pen.lineTo(x, y));
    pen.closePath();
    pen.stroke();
    pen.setLineDash([]);
  }

  // --- the card of a point
  function hover(place) {
    if (place === hovered) return;
    hovered = place;
    card.hidden = place < 0;
    if (place >= 0) {
      const {name, labels} = model.get("look"), notes = (model.get("notes")[place] ?? "").split("\n");
      const named = !name || notes.some(line => line.startsWith(`${name} `));
      card.textContent = [model.get("names")[place], ...(named ? [] : [`${name}: ${labels[place]}`]), ...notes].join("\n").trim();
      const x = toX(xs[place]), left = x + 14 + card.offsetWidth > size[0] ? x - 14 - card.offsetWidth : x + 14;
      card.style.left = `${Math.max(0, left)}px`;
      card.style.top = `${Math.max(0, Math.min(toY(ys[place]) - 10, size[1] - card.offsetHeight))}px`;
    }
    draw();
  }

  // --- picking
  function pick(points) {
    model.set("picked", {count: model.get("picked").count + 1, points});
    model.save_changes();
  }

  function area() {
    if (mode === "lasso") return drawn;
    const [[x1, y1], [x2, y2]] = [drawn[0], drawn.at(-1)];
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
  }

  function within() {
    const border = area();
    return Array.from(xs.keys()).filter(place => seen(place) && inside(border, toX(xs[place]), toY(ys[place])));
  }

  const at = event => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.x, event.clientY - box.y];
  };
  let start = null, dragged = false;
  canvas.onpointerdown = event => {
    if (event.button) return;
    start = at(event);
    dragged = false;
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = event => {
    const [x, y] = at(event);
    if (!start) return hover(nearest(x, y, REACH));
    if (!dragged && Math.hypot(x - start[0], y - start[1]) < 4) return;
    hover(-1);
    if (!dragged && mode !== "pan") drawn = [start];
    dragged = true;
    if (mode === "pan") {
      move(x - start[0], y - start[1]);
      start = [x, y];
    } else {
      drawn.push([x, y]);
      draw();
    }
  };
  canvas.onpointerup = event => {
    if (!start) return;
    const found = drawn ? within() : null, place = nearest(...at(event), REACH);
    const clicked = !dragged;
    start = drawn = null;
    if (found) pick(found);
    else if (clicked) pick(place >= 0 ? [place] : []);
    draw();
  };
  canvas.onpointercancel = () => {
    start = drawn = null;
    draw();
  };
  canvas.onpointerleave = () => hover(-1);
  canvas.onblur = () => hover(-1);
  canvas.addEventListener("wheel", event => {  // the page scrolls, unless the map has the focus
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, ...at(event));
  }, {passive: false});

  // --- by keyboard: arrows go from point to point, Enter picks, + - 0 zoom, Shift and arrows move the map
  function walk(right, up) {
    const from = hovered >= 0 ? hovered : model.get("chosen")[0] ?? nearest(size[0] / 2, size[1] / 2, Infinity);
    if (from === undefined || from < 0) return;
    const ahead = (across, down) => right * across - up * down > Math.abs(right ? down : across);
    const place = hovered < 0 ? from : nearest(toX(xs[from]), toY(ys[from]), Infinity, ahead);
    if (place < 0) return;
    hover(place);
    spoken.textContent = card.textContent;
  }

  canvas.onkeydown = event => {
    const step = event.shiftKey ? (right, up) => move(-40 * right, 40 * up) : walk;
    const act = {
      ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, 1), ArrowDown: () => step(0, -1),
      Enter: () => { if (hovered >= 0) pick([hovered]); }, Escape: () => pick([]),
      "+": () => zoom(0.8), "-": () => zoom(1.25), "0": () => { whole(); draw(); },
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };

  // --- the controls around the map
  function drawTools() {
    const group = `userllm-map-${Math.random()}`;
    const modes = element("span", "", {className: "modes"});
    modes.setAttribute("role", "radiogroup");
    modes.ariaLabel = "what dragging does";
    for (const [name, text] of [["box", "Box"], ["lasso", "Lasso"], ["pan", "Move"]]) {
      const label = element("label"), input = element("input", "", {type: "radio", name: group, value: name, checked: name === mode});
      input.onchange = () => { mode = name; };
      label.append(input, text);
      modes.append(label);
    }
    const button = (text, label, onclick) => element("button", text, {ariaLabel: label, title: label, onclick});
    tools.replaceChildren(modes, button("+", "zoom in", () => zoom(0.8)), button("\u2212", "zoom out", () => zoom(1.25)),
                          button("Whole map", "show the whole map", () => { whole(); draw(); }), button("Clear", "choose no point", () => pick([])));
  }

  function drawLegend() {
    const {name, legend: kinds, scale} = model.get("look");
    const entries = kinds.map((kind, place) => {
      const button = element("button", "", {title: "hide or show"});
      button.setAttribute("aria-pressed", !hidden.has(place));
      button.append(signOf(kind), ` ${kind.name} (${kind.count})`);
      button.onclick = () => {
        hidden.has(place) ? hidden.delete(place) : hidden.add(place);
        button.setAttribute("aria-pressed", !hidden.has(place));
        draw();
      };
      return button;
    });
    legend.replaceChildren(element("b", name), ...entries);
    if (scale) {
      const bar = element("span", "", {className: "bar"});
      bar.style.background = `linear-gradient(to right, ${scale.colours.join(", ")})`;
      legend.append(element("span", scale.low), bar, element("span", scale.high));
    }
  }

  function describe() {
    const {name} = model.get("look"), chosen = model.get("chosen").length;
    canvas.ariaLabel = `Map of ${xs.length} points coloured by ${name}, ${chosen} chosen. Arrow keys go from point to point, Enter chooses, `
                     + "Escape chooses none, plus, minus and 0 zoom, Shift with arrows moves the map.";
  }

  function read() {
    const sent = model.get("places");
    const numbers = new Float32Array(sent.buffer.slice(sent.byteOffset, sent.byteOffset + sent.byteLength));
    xs = Array.from(numbers.filter((_, place) => place % 2 === 0));
    ys = Array.from(numbers.filter((_, place) => place % 2 === 1));
    hover(-1);  // the point under the mouse may be another now, or none
    whole();
    paint();
  }

  function paint() {
    hidden.clear();
    drawLegend();
    mark();
  }

  function mark() {
    describe();
    draw();
  }

  const fit = new ResizeObserver(() => {
    const width = plot.clientWidth;
    if (!width || width === size[0]) return;
    size = [width, Math.round(Math.max(300, Math.min(520, width * 0.62)))];
    canvas.style.height = `${size[1]}px`;
    draw();
  });
  const theme = new MutationObserver(draw);
  fit.observe(plot);
  theme.observe(document.body, {attributes: true, attributeFilter: ["class", "data-jp-theme-name", "data-jp-theme-light"]});
  model.on("change:places", read);
  model.on("change:look", paint);
  model.on("change:chosen change:near", mark);
  drawTools();
  read();
  return () => {
    fit.disconnect();
    theme.disconnect();
    model.off("change:places", read);
    model.off("change:look", paint);
    model.off("change:chosen change:near", mark);
  };
}
export default {render};
