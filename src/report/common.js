'use strict';
// What all pages need; a page's own script follows.

const element = (id) => document.getElementById(id);
const root = document.documentElement;

/** What the page was made from. */
const page = JSON.parse(document.querySelector('script[type="application/json"]').textContent);

/** JSON has no NaN: what was not finite arrives as null. */
const real = (value) => (value === null ? NaN : value);

/** A number's text with the minus sign; a hyphen is shorter than the digits are wide. */
const minus = (text) => text.replace(/-/g, '\u2212');

const dark = () => root.dataset.theme === 'dark';
function chooseTheme(name) {
  root.dataset.theme = name;
  element('theme').textContent = name === 'dark' ? 'Light colours' : 'Dark colours';
}

/** Takes the system's colours until others are chosen by hand; `redraw` follows each change. */
function followTheme(redraw) {
  const preference = window.matchMedia('(prefers-color-scheme: dark)');
  let byHand = false;
  chooseTheme(preference.matches ? 'dark' : 'light');
  preference.addEventListener('change', () => {
    if (byHand) return;
    chooseTheme(preference.matches ? 'dark' : 'light');
    redraw();
  });
  element('theme').hidden = false;
  element('theme').addEventListener('click', () => {
    byHand = true;
    chooseTheme(dark() ? 'light' : 'dark');
    redraw();
  });
}

/** Calls `redraw` when something has become wider or narrower. */
function followWidth(holder, redraw) {
  let width = holder.clientWidth;
  new ResizeObserver(() => {
    if (holder.clientWidth === width) return;
    width = holder.clientWidth;
    redraw();
  }).observe(holder);
}

