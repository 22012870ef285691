"use strict";
// Values of a chart where the pointer is, or, with the arrow keys, from point to point. Texts stay texts.
for (const svg of document.querySelectorAll("svg[data-series]")) {
  const series = JSON.parse(svg.dataset.series);
  const xs = [...new Set(series.flatMap((one) => one.points.map((point) => point[0])))].sort((a, b) => a - b);
  const rule = svg.querySelector(".rule");
  const tip = svg.parentElement.querySelector(".tip");
  const most = 10;
  let at = -1;
  const hide = () => {
    at = -1;
    tip.hidden = true;
    rule.style.display = "none";
  };
  const show = (index, y) => {
    if (!xs.length) return;
    at = Math.min(Math.max(index, 0), xs.length - 1);
    const x = xs[at];
    const found = series
      .flatMap((one, style) => one.points.filter((p) => Math.abs(p[0] - x) < 4).map((p) => [style, one.name, p]))
      .sort((a, b) => Math.abs(a[2][1] - y) - Math.abs(b[2][1] - y));
    const head = document.createElement("b");
    head.textContent = found[0][2][3];
    tip.replaceChildren(head, ...found.slice(0, most).sort((a, b) => a[2][1] - b[2][1]).map(([, name, point]) => {
      const line = document.createElement("div");
      line.textContent = `${name}: ${point[2]}`;
      return line;
    }));
    if (found.length > most) tip.append(`and ${found.length - most} more`);
    rule.setAttribute("x1", x);
    rule.setAttribute("x2", x);
    rule.style.display = "inline";
    tip.hidden = false;
    const right = x > svg.viewBox.baseVal.width / 2;
    tip.style.left = right ? "auto" : `${(100 * x) / svg.viewBox.baseVal.width + 2}%`;
    tip.style.right = right ? `${100 - (100 * x) / svg.viewBox.baseVal.width + 2}%` : "auto";
  };
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const near = xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
    show(near, (event.clientY - box.top) * scale);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at < 0 && step < 0 ? xs.length - 1 : at + step, 0);
  });
}
for (const button of document.querySelectorAll("button.picture")) {
  button.addEventListener("click", () => {
    const large = button.classList.toggle("large");
    button.setAttribute("aria-expanded", large);
  });
}
