// Balls and bonds on a 2D canvas: no WebGL, drawn when seen, turned by pointer or arrow keys.
"use strict";
(function molecules() {
  const looks = karat.data.elements;
  const items = karat.data.molecules;

  const turn = (m, ax, ay) => {
    const [cx, sx, cy, sy] = [Math.cos(ax), Math.sin(ax), Math.cos(ay), Math.sin(ay)];
    const rotate = [[cy, 0, sy], [sx * sy, cx, -sx * cy], [-cx * sy, sx, cx * cy]];
    return rotate.map((row) => [0, 1, 2].map((j) => row.reduce((sum, v, k) => sum + v * m[k][j], 0)));
  };
  const shade = (hex, share) => {
    const target = share < 0 ? 0 : 255;
    return "#" + [1, 3, 5].map((i) => Math.round(parseInt(hex.slice(i, i + 2), 16) * (1 - Math.abs(share)) + target * Math.abs(share)).toString(16).padStart(2, "0")).join("");
  };

  const paint = (canvas, item, matrix, zoom) => {
    const ratio = Math.min(2, devicePixelRatio || 1), width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.scale(ratio, ratio);
    const scale = zoom * Math.min(width, height) / (2 * item.radius + 1.5), depth = 3.2 * item.radius + 4;
    const points = item.positions.map((p) => {
      const [x, y, z] = matrix.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
      const near = depth / (depth - z);
      return { x: width / 2 + scale * near * x, y: height / 2 - scale * near * y, z, near };
    });
    const size = (i) => scale * points[i].near * looks[item.numbers[i]].radius;
    const line = karat.colour("--ink-3");
    const jobs = item.bonds.map(([i, j]) => ({ z: (points[i].z + points[j].z) / 2 - 0.05, bond: [i, j] }))
      .concat(points.map((p, i) => ({ z: p.z, atom: i }))).sort((a, b) => a.z - b.z);
    for (const job of jobs) {
      if (job.bond) {
        const [a, b] = job.bond.map((i) => points[i]);
        const fog = 0.45 + 0.55 * (job.z + item.radius) / (2 * item.radius || 1);
        pen.globalAlpha = Math.max(0.3, Math.min(1, fog)); pen.strokeStyle = line; pen.lineCap = "round";
        pen.lineWidth = Math.max(1.5, 0.17 * scale * (a.near + b.near) / 2);
        const long = Math.hypot(b.x - a.x, b.y - a.y) || 1;
        const [u, v] = job.bond.map((i) => 0.75 * size(i) / long);
        if (u + v < 1) {
          pen.beginPath(); pen.moveTo(a.x + (b.x - a.x) * u, a.y + (b.y - a.y) * u);
          pen.lineTo(b.x + (a.x - b.x) * v, b.y + (a.y - b.y) * v); pen.stroke();
        }
        pen.globalAlpha = 1;
      } else {
        const p = points[job.atom], r = size(job.atom), colour = looks[item.numbers[job.atom]].colour;
        const fill = pen.createRadialGradient(p.x - r * 0.35, p.y - r * 0.4, r * 0.1, p.x, p.y, r);
        fill.addColorStop(0, shade(colour, 0.6)); fill.addColorStop(0.45, colour); fill.addColorStop(1, shade(colour, -0.38));
        pen.fillStyle = fill; pen.beginPath(); pen.arc(p.x, p.y, r, 0, 2 * Math.PI); pen.fill();
      }
    }
    canvas.dataset.drawn = "1";
  };

  const start = (canvas) => {
    const item = items[Number(canvas.dataset.molecule)];
    let matrix = turn([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 0.35, -0.45), zoom = 1, last = null;
    const again = () => paint(canvas, item, matrix, zoom);
    canvas.addEventListener("pointerdown", (e) => { last = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", (e) => {
      if (!last) return;
      matrix = turn(matrix, (e.clientY - last[1]) / 90, (e.clientX - last[0]) / 90);
      last = [e.clientX, e.clientY]; again();
    });
    ["pointerup", "pointercancel"].forEach((n) => canvas.addEventListener(n, () => { last = null; }));
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [0, -0.2], ArrowRight: [0, 0.2], ArrowUp: [-0.2, 0], ArrowDown: [0.2, 0] }[e.key];
      if (step) { matrix = turn(matrix, step[0], step[1]); }
      else if (e.key === "+" || e.key === "=") zoom = Math.min(3, zoom * 1.15);
      else if (e.key === "-") zoom = Math.max(0.5, zoom / 1.15);
      else return;
      e.preventDefault(); again();
    });
    karat.onTheme.push(again);
    addEventListener("resize", again);
    again();
  };
  const rest = karat.lazy(Array.from(document.querySelectorAll("canvas[data-molecule]")), start);
  const charts = karat.drawAll;
  karat.drawAll = () => { rest(); return charts(); };
  addEventListener("beforeprint", rest);
  document.documentElement.dataset.ready = "1";
})();
