// Starts the page: the router, the search box, keys, dark and light, the progress of a refresh.
import { get, post } from './api.js';
import { artist, clock, failed, h, icon, iconButton, loading, number, paint, plain, tell, title } from './dom.js';
import { player, seekBy, step, toggle } from './player.js';
import { linkTo } from './songs.js';
import { setTheme, state } from './state.js';
import * as views from './views.js';

const main = document.getElementById('main');
const ROUTES = { '': 'home', song: 'song', mix: 'mix', map: 'map', path: 'path', playlist: 'playlist', library: 'library', station: 'station', liked: 'liked', file: 'file' };
const NAMES = { home: 'Listen', mix: 'Mix', map: 'Map', path: 'Path', playlist: 'Playlist', library: 'Library', station: 'Station', liked: 'What you liked', file: 'Search by a file' };

async function route() {
  const [address, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = address.split('/');
  const view = ROUTES[name];
  const params = { ...Object.fromEntries(new URLSearchParams(query || '')), id: decoded(rest.join('/')) };
  main.className = '';
  main.dataset.view = view || '';
  document.title = view && NAMES[view] && view !== 'home' ? `${NAMES[view]} – SimSong` : 'SimSong';
  for (const link of document.querySelectorAll('.tabs a')) {
    if (link.getAttribute('href') === `#/${name}`) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  }
  if (!state.status) return;
  if (!state.status.published && view !== 'library') { empty(); return; }
  if (!view) { main.replaceChildren(failed(new Error('There is no such view.'))); return; }
  await views[view](main, params);
  if (route.moved) (main.querySelector('h1') || main).focus({ preventScroll: true });
  if (route.moved) window.scrollTo(0, 0);
}
const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

function empty() {
  const { progress } = state.status;
  main.replaceChildren(h('div.empty', {}, h('h1', { tabIndex: -1 }, progress.running ? 'Your songs are on their way' : 'Nothing to listen to yet'),
    progress.running ? h('p.soft', {}, `${number(progress.songs)} songs are being listened to and compared. This page fills by itself when they are published.`)
      : [h('p.soft', {}, 'Point SimSong at a folder of music. This page fills by itself when it is done.'), h('pre', { tabIndex: 0 }, 'simsong run --folder ~/Music'), h('p.soft.small', {}, 'Or try it on made-up songs: simsong run --demo')],
    progress.running && Object.keys(progress.stages).length ? h('div', { style: { width: '100%', textAlign: 'left' } }, views.stageLines(progress.stages)) : null,
    h('a.button', { href: '#/library' }, 'What the library holds')));
}

function locked() {
  document.querySelector('.find').hidden = true;
  const input = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true });
  const enter = async (event) => { event.preventDefault(); try { await post('session', { token: input.value }); document.querySelector('.find').hidden = false; await look(); } catch (error) { tell(error.message); input.select(); } };
  main.replaceChildren(h('form.enter', { onsubmit: enter }, h('h1', { tabIndex: -1 }, 'Welcome'), h('p.soft', {}, 'This library is for those who have its token.'), h('label.field', { htmlFor: 'token' }, 'Token', input), h('button.button.main', { type: 'submit', style: { justifyContent: 'center' } }, 'Enter')));
  input.focus();
}

// What is published, and whether a refresh runs

async function look() {
  const before = state.status?.published?.version;
  try { state.status = await get('status'); } catch (error) {
    if (!state.status && error.status !== 401) main.replaceChildren(failed(error, look));
    return;
  }
  showProgress();
  const now = state.status.published?.version;
  if (!look.begun || (now !== before && !before)) { look.begun = true; await route(); } else if (now !== before) tell('New songs were published.');
}

function showProgress() {
  const box = document.getElementById('progress'), { progress } = state.status;
  box.hidden = !progress.running || !state.status.published;
  if (box.hidden) return;
  const stages = Object.entries(progress.stages).filter(([, one]) => views.sum(one.pending) > 0 || one.ok < progress.songs);
  const [name, one] = stages[0] || [];
  box.replaceChildren(h('b', {}, 'A refresh is running'), name ? h('span', {}, `${name.replaceAll('_', ' ')}: ${number(one.ok)} of ${number(progress.songs)}`) : null, name ? h('span.bar', { 'aria-hidden': 'true' }, h('i', { style: { width: `${100 * one.ok / Math.max(progress.songs, 1)}%` } })) : null, h('a', { href: '#/library' }, 'Details'));
}

// Search as you type

const input = document.getElementById('find'), found = document.getElementById('found');
let asked = null, wait = null, at = -1;

function close() { found.hidden = true; at = -1; input.setAttribute('aria-expanded', 'false'); input.removeAttribute('aria-activedescendant'); }
function choose(next) {
  const options = [...found.querySelectorAll('[role="option"]')];
  if (!options.length) return;
  at = (next + options.length) % options.length;
  options.forEach((option, number_) => option.setAttribute('aria-selected', String(number_ === at)));
  input.setAttribute('aria-activedescendant', options[at].id);
  options[at].scrollIntoView({ block: 'nearest' });
}
async function search() {
  asked?.abort();
  const text = input.value.trim();
  if (!text || !state.status?.published) { close(); return; }
  asked = new AbortController();
  try {
    const { items, total, roughly } = await get('songs', { q: text, limit: 8 }, { signal: asked.signal });
    found.replaceChildren(...(roughly ? [h('li.note', { role: 'presentation' }, 'Nothing reads so. Near to it:')] : []),
      ...items.map((song, number_) => h('li', { role: 'option', id: `found-${number_}`, 'aria-selected': 'false', onclick: () => go(song) }, paint(h('span.cover', { style: { width: '38px', height: '38px' } }), song), h('span', { style: { minWidth: '0' } }, h('b', { style: { display: 'block' } }, title(song)), h('span.soft.small', {}, artist(song), song.album ? ` · ${plain(song.album)}` : '')))),
      ...(total > items.length ? [h('li.note', { role: 'presentation' }, `and ${number(total - items.length)} more: go on typing`)] : []), ...(items.length ? [] : [h('li.note', { role: 'presentation' }, 'No song reads so.')]));
    found.hidden = false;
    at = -1;
    input.setAttribute('aria-expanded', 'true');
  } catch (error) { if (error.name !== 'AbortError') { close(); tell(error.message); } }
}
function go(song) { close(); input.value = ''; input.blur(); location.hash = linkTo(song); }
input.addEventListener('input', () => { clearTimeout(wait); wait = setTimeout(search, 90); });
input.addEventListener('focus', () => { if (input.value.trim()) search(); });
input.addEventListener('keydown', (event) => {
  if (event.key === 'ArrowDown') { event.preventDefault(); choose(at + 1); } else if (event.key === 'ArrowUp') { event.preventDefault(); choose(at - 1); }
  else if (event.key === 'Enter') { event.preventDefault(); found.querySelectorAll('[role="option"]')[Math.max(at, 0)]?.click(); } else if (event.key === 'Escape') { close(); input.value = ''; }
});
document.addEventListener('click', (event) => { if (!event.target.closest('.find')) close(); });

// Keys

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea, dialog, [contenteditable]')) return;
  const onControl = event.target.closest('button, a, summary');
  if (event.key === '/') { event.preventDefault(); input.focus(); } else if (event.key === '?') help();
  else if (event.key === ' ' && !onControl && player.song) { event.preventDefault(); toggle(); } else if (event.key === 'k') toggle();
  else if (event.key === 'n') step(1); else if (event.key === 'p') step(-1); else if (event.key === 'ArrowRight') seekBy(10); else if (event.key === 'ArrowLeft') seekBy(-10);
});

function help() {
  const dialog = document.getElementById('help');
  const keys = [['/', 'search'], ['space', 'play or pause'], ['n  p', 'the next song, the one before'], ['←  →', '10 seconds back or on'], ['?', 'these keys']];
  dialog.replaceChildren(h('h2', { id: 'help-title' }, 'Keys'), h('dl.keys', {}, keys.map(([key, does]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, does)])), h('button.button', { type: 'button', onclick: () => dialog.close() }, 'Close'));
  dialog.showModal();
}

// Dark and light

const theme = document.getElementById('theme');
function paintTheme() {
  const dark = state.theme ? state.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  theme.replaceChildren(icon(dark ? 'sun' : 'moon'));
  theme.setAttribute('aria-label', dark ? 'Light' : 'Dark');
}
theme.addEventListener('click', () => { setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'); paintTheme(); if (main.dataset.view === 'map' || main.dataset.view === 'song') route(); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paintTheme);

function showCount() { const count = document.getElementById('count'); count.hidden = !state.playlist.length; count.textContent = String(state.playlist.length); count.setAttribute('aria-label', `${state.playlist.length} songs`); }
window.addEventListener('changed', showCount);
window.addEventListener('locked', locked);
window.addEventListener('hashchange', () => { route.moved = true; close(); input.value = ''; route(); });
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
paintTheme();
showCount();
main.replaceChildren(loading(4));
look();
setInterval(() => { if (!document.hidden) look(); }, 4000);
