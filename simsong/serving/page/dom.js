// Elements are made here, of text that stays text: titles are other people's.

const ICONS = {
  play: 'M8 5.5v13l11-6.5z', pause: 'M8 5v14M16 5v14', next: 'M6 5.5v13l9-6.5zM18 5v14', prev: 'M18 5.5v13L9 12zM6 5v14',
  plus: 'M12 5v14M5 12h14', minus: 'M5 12h14', close: 'M6 6l12 12M18 6L6 18', list: 'M4 6h11M4 12h11M4 18h7M19 12v6M16 15h6',
  why: 'M12 20.5a8.500 8.500 0 1 0 0-17 8.500 8.500 0 0 0 0 17zM9.700 9.700a2.400 2.400 0 1 1 3.500 2.200c-.8.4-1.200.9-1.200 1.800M12 16.600v.1', heart: 'M12 20s-7.5-4.6-7.5-10A4.2 4.2 0 0 1 12 7.4 4.2 4.2 0 0 1 19.500 10c0 5.400-7.500 10-7.500 10z',
  less: 'M7 4h9.500l3 7.500V14h-6l1 5-1.500 1.500L7 14zM4 4v10', path: 'M6 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM18 9a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM8 17h6a3 3 0 0 0 0-6h-4a3 3 0 0 1 0-6h6',
  sun: 'M12 16.500a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9zM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400',
  moon: 'M20 14.500A8.200 8.200 0 0 1 9.500 4 8.200 8.200 0 1 0 20 14.500z', file: 'M12 15V4M7.500 8.500 12 4l4.500 4.500M5 15v4h14v-4', save: 'M12 4v11M7.500 11.500 12 16l4.500-4.500M5 19h14',
  up: 'M6 15l6-6 6 6', down: 'M6 9l6 6 6-6', star: 'M12 3.500l2.600 5.400 5.900.8-4.300 4.100 1 5.900L12 16.900l-5.200 2.800 1-5.900L3.500 9.700l5.900-.8z', help: 'M9.200 9a2.900 2.900 0 1 1 4.200 2.600c-.9.5-1.400 1.100-1.400 2.200M12 17.500v.1',
};
const FILLED = new Set(['play', 'next', 'prev']);
const SVG = 'http://www.w3.org/2000/svg';

/** An element: `h('a.name', {href}, 'text', child)`. Properties that begin with "on" are listeners. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split('.');
  const node = document.createElement(name || 'div');
  if (classes.length) node.className = classes.join(' ');
  for (const [key, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key === 'style') Object.assign(node.style, value);
    else if (key === 'class') node.classList.add(...value.split(' ').filter(Boolean));
    else if (key in node && key !== 'list' && !key.startsWith('aria')) node[key] = value;
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  for (const [key, value] of Object.entries({ viewBox: '0 0 24 24', 'aria-hidden': 'true', fill: FILLED.has(name) ? 'currentColor' : 'none', stroke: 'currentColor', 'stroke-width': '1.9', 'stroke-linecap': 'round', 'stroke-linejoin': 'round' })) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

export const iconButton = (name, label, onclick, props = {}) =>
  h('button.icon', { type: 'button', 'aria-label': label, title: label, onclick, ...props }, icon(name));

/** Invisible marks that turn text around would mix up a line. */
export const plain = (text) => (text || '').replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g, ' ').trim();
export const title = (song) => plain(song.title) || 'Untitled';
export const artist = (song) => plain(song.artist) || 'Unknown artist';
export const clock = (s) => (s === null || s === undefined || !isFinite(s) ? '' : `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, '0')}`);
export const number = (n) => Number(n).toLocaleString('en');
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

const PAINTS = [['#2b1055', '#7597de', '#ffb38a'], ['#0f2b46', '#1f7a8c', '#f6d6a8'], ['#3b0d2b', '#c2335a', '#ffc46b'], ['#10312b', '#2a9d8f', '#e9f5c9'], ['#1b1f4b', '#5f4bb6', '#f78fb3'], ['#40140c', '#d1495b', '#edae49'], ['#0b1d3a', '#3a6ea5', '#9be7ff'], ['#2d132c', '#801336', '#ee6f57'], ['#102a43', '#627d98', '#f0b8a8'], ['#1a2e1f', '#4f8a5b', '#f4d58d'], ['#31144f', '#9d4edd', '#ff9e7a'], ['#3a1d00', '#b5651d', '#ffe3b3']];

/** A picture of a song that has none: the same for the same artist's album. */
export function paint(node, song) {
  let seed = 2166136261;
  for (const c of `${song.artist || ''}/${song.album || song.track_id}`) seed = Math.imul(seed ^ c.codePointAt(0), 16777619) >>> 0;
  const [dark, mid, light] = PAINTS[seed % PAINTS.length], at = 18 + (seed >>> 9) % 64, other = 18 + (seed >>> 15) % 64;
  node.style.background = `radial-gradient(circle at ${at}% ${other}%, ${light}, transparent 58%), radial-gradient(circle at ${100 - at}% ${100 - other / 2}%, ${mid}, transparent 70%), linear-gradient(${(seed >>> 5) % 360}deg, ${dark}, ${mid})`;
  return node;
}

let timer;
export function tell(text) {
  const box = document.getElementById('told');
  box.textContent = text;
  box.classList.add('shown');
  clearTimeout(timer);
  timer = setTimeout(() => box.classList.remove('shown'), 3200);
}

export const loading = (rows = 6) => h('div.loading', { role: 'status', 'aria-label': 'Loading' }, Array.from({ length: rows }, () => h('i')));
export const failed = (error, again) => h('div.error', { role: 'alert' }, h('p', {}, error.message),
  error.nearest?.length ? h('p.soft.small', {}, `Near to it: ${error.nearest.map(plain).join('; ')}`) : null,
  again ? h('button.button.small', { type: 'button', onclick: again, style: { marginTop: '10px' } }, 'Try again') : null);
