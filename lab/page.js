// Keeps the page up to date from /events, and moves dots along the lines.
"use strict";
const $ = (id) => document.getElementById(id);
const ways = new Map([...document.querySelectorAll(".way")].map((p) => [p.dataset.from + " " + p.dataset.to, p]));
const members = new Map([...document.querySelectorAll(".member")].map((g) => [g.dataset.name, g]));
const rows = new Map([...document.querySelectorAll("tbody tr")].map((r) => [r.dataset.name, r]));
const still = matchMedia("(prefers-reduced-motion: reduce)");
const most = 150; // dots at one time
const lasts = 900; // milliseconds of one dot
let dots = [];

function send(from, to, delay) {
  const back = ways.get(to + " " + from);
  const path = ways.get(from + " " + to) || back;
  if (!path || still.matches || document.hidden || dots.length >= most) return;
  const c = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  c.setAttribute("class", "packet");
  c.setAttribute("r", "3");
  c.setAttribute("visibility", "hidden");
  $("packets").append(c);
  dots.push({ c, path, length: path.getTotalLength(), reverse: !ways.has(from + " " + to), begin: performance.now() + delay });
  if (dots.length === 1) requestAnimationFrame(step);
}

function step(now) {
  dots = dots.filter((d) => {
    const t = (now - d.begin) / lasts;
    if (t < 0) return true;
    if (t >= 1) { d.c.remove(); return false; }
    const at = d.path.getPointAtLength(d.length * (d.reverse ? 1 - t : t));
    d.c.setAttribute("cx", at.x);
    d.c.setAttribute("cy", at.y);
    d.c.removeAttribute("visibility");
    return true;
  });
  if (dots.length) requestAnimationFrame(step);
}

function show(v) {
  $("epoch").textContent = v.epoch;
  $("phase").textContent = v.phase;
  $("kills").hidden = !v.kills;
  $("kills").querySelector("b").textContent = v.kills;
  $("lost").hidden = !v.came;
  const [lost, came] = $("lost").querySelectorAll("b");
  lost.textContent = v.lost;
  came.textContent = v.came;
  for (const m of v.members) {
    const g = members.get(m.name), r = rows.get(m.name);
    if (!g || !r) continue;
    g.classList.toggle("down", !m.up);
    g.querySelector(".held").textContent = m.held || "";
    r.classList.toggle("down", !m.up);
    r.cells[1].textContent = m.state;
    if (r.cells[2].textContent !== "") r.cells[2].textContent = m.sent;
    if (r.cells[3].textContent !== "") r.cells[3].textContent = m.held;
  }
  for (const x of v.moves || []) for (let i = 0; i < x.n; i++) send(x.from, x.to, Math.random() * 500);
}

const events = new EventSource("events");
events.onmessage = (e) => { $("live").textContent = ""; show(JSON.parse(e.data)); };
events.onerror = () => { $("live").textContent = "The lab does not answer."; };
