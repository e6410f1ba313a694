// A view keeps its keys, names both handles of a range, and says when a click has to wait.

const PATIENCE = 400;  // milliseconds before a wait is shown
const WAITING = "The kernel is at work. Your click is answered when it is free.";
const GONE = "The kernel that drew this has ended. Run the notebook again from its first cell: Run, Run All Cells.";

function render({model, el}) {
  const sign = Object.assign(document.createElement("div"), {className: "userllm-sign", hidden: true});
  sign.setAttribute("role", "status");
  let view = null, next = 0, timer = 0;

  const say = text => {
    sign.hidden = !text;
    sign.firstChild?.remove();
    if (text) sign.append(Object.assign(document.createElement("span"), {textContent: text}));
  };
  const gone = () => el.closest(".jupyter-widgets-disconnected") !== null;
  const settle = () => {
    if (gone()) return say(GONE);
    if (model.get("answered") < model.get("asked")) return;
    clearTimeout(timer);
    say("");
  };

  // A number is sent after each click or change; the kernel sends it back when it has dealt with all that came before.
  const ask = event => {
    if (!event.target.closest("button, select, input, textarea, tr, canvas, [role=slider]")) return;
    setTimeout(() => {
      model.set("asked", model.get("asked") + 1);
      model.save_changes();
      clearTimeout(timer);
      timer = setTimeout(() => { if (gone() || model.get("answered") < model.get("asked")) say(gone() ? GONE : WAITING); }, PATIENCE);
    });
  };
  const keep = event => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); };

  const name = () => view.querySelectorAll(".widget-inline-hbox").forEach(box => {
    const label = box.querySelector(".widget-label")?.innerText, handles = [...box.querySelectorAll("[role=slider]")];
    const parts = handles.length === 2 ? [": lower end", ": upper end"] : [""];
    if (label) handles.forEach((handle, place) => handle.setAttribute("aria-label", label + parts[place]));
  });
  const lost = new MutationObserver(settle);
  const drawn = new MutationObserver(name);

  const wait = () => {
    view = el.closest(".userllm-view, .userllm-work");
    if (!view) {
      next = requestAnimationFrame(wait);
      return;
    }
    view.prepend(sign);
    view.addEventListener("keydown", keep);
    view.addEventListener("click", ask);
    view.addEventListener("change", ask);
    lost.observe(el.closest(".jupyter-widgets") ?? el, {attributes: true, attributeFilter: ["class"]});
    lost.observe(view, {attributes: true, attributeFilter: ["class"]});
    drawn.observe(view, {childList: true, subtree: true});
    name();
    settle();
  };
  model.on("change:answered", settle);
  wait();
  return () => {
    cancelAnimationFrame(next);
    clearTimeout(timer);
    lost.disconnect();
    drawn.disconnect();
    model.off("change:answered", settle);
    view?.removeEventListener("keydown", keep);
    view?.removeEventListener("click", ask);
    view?.removeEventListener("change", ask);
    sign.remove();
  };
}
export default {render};
