// The views of the page: each takes the main element and what its address says.
import { get, post, postFile, put, remove, songPath, address } from './api.js';
import { artist, clock, failed, h, icon, iconButton, loading, number, paint, plain, plural, tell, title } from './dom.js';
import { play, player } from './player.js';
import { coverOf, linkTo, listButton, reasonsOf, seedButton, songList, waveform, wholeUrl } from './songs.js';
import { addToPlaylist, removeFromPlaylist, setPlaylist, setSeed, state } from './state.js';

const block = (name, more, ...children) => h('section.block', { 'aria-label': name }, h('header', {}, h('h2', {}, name), more), children);
const heading = (text) => h('h1', { tabIndex: -1 }, text);

/** Fill a node with what is fetched; what it held before stays until then. */
async function fill(node, fetched, show, again) {
  node.setAttribute('aria-busy', 'true');
  try { node.replaceChildren(...[show(await fetched())].flat(Infinity).filter(Boolean)); } catch (error) {
    if (error.name !== 'AbortError') node.replaceChildren(failed(error, again || (() => fill(node, fetched, show))));
  }
  node.removeAttribute('aria-busy');
}

// Listen

export async function home(main) {
  const { published } = state.status;
  const sample = h('div', {}, loading(3)), chips = h('div'), stations = h('div'), liked = h('div');
  main.replaceChildren(
    h('div.hero', {}, heading('Find songs that sound like the ones you love.'),
      h('p.lead', {}, `${plural(published.songs, 'song')}, compared by how they sound. Search for one above, or start anywhere.`)),
    state.status.upload ? dropZone() : null,
    block('Start anywhere', h('button.button.small', { type: 'button', onclick: () => fill(sample, someSongs, cards) }, 'Others'), sample),
    liked, stations, chips);
  fill(sample, someSongs, cards);
  fill(chips, () => get('facets'), ({ genres }) => genres.length ? block('By genre', null, h('div.chips', {}, genres.slice(0, 24).map((one) => h('a.chip', { href: `#/mix?genre=${encodeURIComponent(one.name)}` }, h('b', {}, plain(one.name)), h('small', {}, number(one.songs)))))) : null);
  fill(stations, () => get('stations'), ({ items }) => items.length ? block('Your stations', null, h('div.chips', {}, items.map((one) => h('a.chip', { href: `#/station/${encodeURIComponent(one.id)}` }, icon('star'), h('b', {}, plain(one.name)))))) : null);
  get('feedback').then(({ more }) => (more.length ? get('recommended', { k: 6 }) : { items: [] })).then(({ items }) => { if (items.length) liked.replaceChildren(block('Because of what you liked', h('a.button.small', { href: '#/liked' }, 'All of it'), cards(items))); }).catch(() => {});
}

async function someSongs() {
  const { total } = await get('songs', { limit: 1 });
  const most = 12, places = new Set();
  while (places.size < Math.min(most, total)) places.add(Math.floor(Math.random() * total));
  if (total <= 200) {
    const { items } = await get('songs', { limit: 200 });
    return [...places].map((at) => items[at]);
  }
  return (await Promise.all([...places].map((offset) => get('songs', { limit: 1, offset })))).flatMap(({ items }) => items);
}

const cards = (songs) => h('div.cards', {}, songs.map((song) => h('div.card.song', {}, coverOf(song, () => songs), h('a', { href: linkTo(song) }, title(song)), h('span.by', {}, artist(song)))));

function dropZone() {
  const input = h('input.hidden', { type: 'file', accept: 'audio/*,.flac,.opus,.ogg,.mp3,.m4a,.wav', id: 'file', tabIndex: -1 });
  const zone = h('div.drop', {}, h('button.button', { type: 'button', onclick: () => input.click() }, icon('file'), 'Search by a file'), h('label.hidden', { htmlFor: 'file' }, 'An audio file'), input, h('span', {}, 'or drop one here. It is listened to and forgotten.'));
  const take = (file) => { if (file) { pending = file; if (location.hash === '#/file') window.dispatchEvent(new HashChangeEvent('hashchange')); else location.hash = '#/file'; } };
  input.addEventListener('change', () => take(input.files[0]));
  zone.addEventListener('dragover', (event) => { event.preventDefault(); zone.classList.add('over'); });
  zone.addEventListener('dragleave', () => zone.classList.remove('over'));
  zone.addEventListener('drop', (event) => { event.preventDefault(); zone.classList.remove('over'); take(event.dataTransfer.files[0]); });
  return zone;
}

let pending = null;
export async function file(main) {
  const found = h('div'), given = pending;
  main.replaceChildren(heading(given ? `Songs like ${plain(given.name)}` : 'Search by a file'), dropZone(), found);
  if (!given) return;
  found.replaceChildren(h('p.lead', { role: 'status' }, 'Listening to it…'), loading(4));
  await fill(found, () => postFile('similar/file', { k: 25 }, given), (told) => [notes(told), allButtons(told.items), songList(told.items, { scores: true, ranks: true, label: 'Songs like your file' })], () => file(main));
}

const notes = (told) => told.notes.length ? h('p.soft.small', { style: { margin: '14px 0' } }, told.notes.map(plain).join(' ')) : null;
const allButtons = (songs, name) => h('div.row', { style: { margin: '16px 0' } },
  songs.some((song) => song.has_audio) ? h('button.button.main.small', { type: 'button', onclick: () => play(songs.find((song) => song.has_audio), songs) }, icon('play'), 'Play all') : null,
  h('button.button.small', { type: 'button', onclick: () => tell(`${plural(addToPlaylist(songs), 'song')} added to the playlist`) }, icon('list'), 'All into the playlist'));

// One song

export async function song(main, { id }) {
  main.replaceChildren(loading(5));
  await fill(main, () => get(songPath(id)), (one) => {
    const near = h('div', {}, loading(6)), artists = h('div');
    fill(near, () => get('similar', { like: one.track_id, k: 20 }), (told) => [allButtons([one, ...told.items]), songList(told.items, { scores: true, ranks: true, against: one, label: `Songs like ${title(one)}` })]);
    if (one.artist) fill(artists, () => get('artists/similar', { name: one.artist, k: 8 }), ({ items }) => items.length ? block('Artists who sound alike', null, h('div.chips', {}, items.map((other) => h('a.chip', { href: `#/mix?artist=${encodeURIComponent(other.name)}` }, h('b', {}, plain(other.name)), h('small', {}, other.score.toFixed(2)))))) : null);
    document.title = `${title(one)} – SimSong`;
    return [
      h('div.song-head', {}, coverOf(one, () => [one], true),
        h('div', {}, heading(title(one)),
          h('p.by', {}, one.artist ? h('a', { href: `#/mix?artist=${encodeURIComponent(one.artist)}` }, artist(one)) : artist(one), [one.album, one.year, one.genres.join(', '), clock(one.duration_s)].filter(Boolean).map((part) => ` · ${plain(String(part))}`)),
          h('div.row', {}, seedButton('plus', 'like', one, 'More like it'), seedButton('minus', 'unlike', one, 'Less like it'), listButton(one, 'Playlist'),
            h('a.button.small', { href: `#/path?from=${encodeURIComponent(one.track_id)}` }, icon('path'), 'Path from here'), judgeButtons(one), one.url ? h('a.button.small', { href: one.url, rel: 'noopener noreferrer', target: '_blank' }, 'Where it is from') : null))),
      one.has_audio ? wholeWave(one) : h('p.soft', { style: { marginTop: '20px' } }, state.status.audio ? 'This song was not fetched, so it cannot be listened to here.' : 'This server plays nothing.'),
      block('Sounds like it', h('span.soft.small', {}, 'The question mark tells why, and plays the passages that agree.'), near),
      artists,
    ];
  });
}

function judgeButtons(one) {
  if (state.status.read_only) return null;
  let verdict = one.feedback;
  const buttons = { more: h('button.button.small', { type: 'button' }, icon('heart'), 'I like it'), less: h('button.button.small', { type: 'button' }, icon('less'), 'Not for me') };
  const show = () => { for (const [name, button] of Object.entries(buttons)) button.setAttribute('aria-pressed', String(verdict === name)); };
  for (const [name, button] of Object.entries(buttons)) {
    button.addEventListener('click', async () => {
      const next = verdict === name ? 'none' : name;
      try { await put('feedback', { track_id: one.track_id, verdict: next }); verdict = next; show(); tell(next === 'none' ? 'Taken back' : 'Kept; it is heard in what you are recommended'); } catch (error) { tell(error.message); }
    });
  }
  show();
  return Object.values(buttons);
}

function wholeWave(one) {
  const wave = h('div'), marks = h('div.marks', { 'aria-hidden': 'true' }), legend = h('p.legend');
  get(`${songPath(one.track_id)}/windows`).then((windows) => {
    if (!one.duration_s || !windows.length) return;
    marks.append(...windows.map(({ start_s, end_s }) => h('i', { style: { left: `${100 * start_s / one.duration_s}%`, width: `${Math.max(0.5, 100 * (end_s - start_s) / one.duration_s - 0.3)}%` } })));
    legend.textContent = `Compared by ${plural(windows.length, 'passage')}, marked above.`;
  }).catch(() => {});
  waveform(wave, wholeUrl(one), 72).then((surfer) => {
    surfer.setMuted(true);
    surfer.on('interaction', (at) => { if (player.song?.track_id !== one.track_id) play(one); const go = () => { player.audio.currentTime = at; }; if (player.audio.readyState) go(); else player.audio.addEventListener('loadedmetadata', go, { once: true }); });
    const show = () => { if (!wave.isConnected) { player.audio.removeEventListener('timeupdate', show); surfer.destroy(); return; } if (player.song?.track_id === one.track_id) surfer.setTime(player.audio.currentTime); };
    player.audio.addEventListener('timeupdate', show);
  }).catch(() => { wave.textContent = 'Its waveform cannot be drawn here.'; });
  return h('div.whole', {}, wave, marks, legend);
}

// Mix: more of this, less of that

export async function mix(main, { genre, artist: by }) {
  main.replaceChildren(heading('Mix'), loading(5));
  const found = h('div'), seeds = h('div'), facets = await get('facets').catch(() => ({ genres: [], years: null }));
  const rules = { k: 25, genre: genre || '', artist: by || '', only_genre: '', from: '', to: '', per_artist: '', diversity: 0 };
  const ask = () => {
    const { like, unlike } = state.mix;
    const years = rules.from || rules.to ? (rules.from === rules.to ? rules.from : `${rules.from}-${rules.to}`) : undefined;
    const params = { like: like.map((one) => one.track_id), unlike: unlike.map((one) => one.track_id), genre: rules.genre, artist: rules.artist, only_genre: rules.only_genre, years, per_artist: rules.per_artist, diversity: Number(rules.diversity) || undefined, k: rules.k };
    if (!like.length && !rules.genre && !rules.artist && !rules.only_genre && !years) {
      found.replaceChildren(h('div.empty', {}, h('h2', {}, 'Nothing in the mix yet'), h('p.soft', {}, 'Press + beside a song for more like it, − for less. Several make a mix.'), h('a.button.main', { href: '#/' }, 'Find a song')));
      return;
    }
    fill(found, () => get('similar', params), (told) => [notes(told), h('div.row', {}, allButtons(told.items), state.status.read_only || !like.length ? null : h('button.button.small', { type: 'button', onclick: () => saveStation(params, years) }, icon('star'), 'Save as a station')),
      told.items.length ? songList(told.items, { scores: true, ranks: true, against: like[0], label: 'The mix' }) : h('p.soft', {}, 'No song passes these rules.')]);
  };
  const show = () => {
    const chip = (one, side) => h(`span.chip.${side === 'like' ? 'plus' : 'minus'}`, {}, icon(side === 'like' ? 'plus' : 'minus'), h('b', {}, title(one)), h('small', {}, artist(one)), h('button', { type: 'button', 'aria-label': `Take ${title(one)} out of the mix`, onclick: () => setSeed(one, null) }, icon('close')));
    const extra = (name, label) => rules[name] ? h('span.chip.plus', {}, h('small', {}, label), h('b', {}, plain(rules[name])), h('button', { type: 'button', 'aria-label': `Without ${plain(rules[name])}`, onclick: () => { rules[name] = ''; show(); ask(); } }, icon('close'))) : null;
    seeds.replaceChildren(h('div.chips', { style: { marginTop: '18px' } }, extra('genre', 'genre'), extra('artist', 'artist'), state.mix.like.map((one) => chip(one, 'like')), state.mix.unlike.map((one) => chip(one, 'unlike'))));
  };
  const field = (label, control) => h('label.field', {}, label, control);
  const bound = (name, props) => h('input', { ...props, oninput: (event) => { rules[name] = event.target.value; later(ask); } });
  main.replaceChildren(heading('Mix'), h('p.lead', {}, 'More of this, less of that.'), seeds,
    h('div.filters', {},
      field('Only of the genre', h('select', { onchange: (event) => { rules.only_genre = event.target.value; ask(); } }, h('option', { value: '' }, 'any'), facets.genres.map((one) => h('option', { value: one.name }, `${plain(one.name)} (${one.songs})`)))),
      field('From the year', bound('from', { type: 'number', min: 1, max: 9999, placeholder: facets.years?.[0] ?? '' })), field('To the year', bound('to', { type: 'number', min: 1, max: 9999, placeholder: facets.years?.[1] ?? '' })),
      field('Of an artist at most', bound('per_artist', { type: 'number', min: 1, max: 50, placeholder: 'any' })),
      field('Variety', bound('diversity', { type: 'range', min: 0, max: 1, step: 0.05, value: 0 })),
      field('How many', bound('k', { type: 'number', min: 1, max: 500, value: 25 }))), found);
  show();
  ask();
  const changed = () => { if (!found.isConnected) { window.removeEventListener('mixed', changed); return; } show(); ask(); };
  let before = JSON.stringify(state.mix);
  const watch = () => { if (!found.isConnected) { window.removeEventListener('changed', watch); return; } const now = JSON.stringify(state.mix); if (now !== before) { before = now; changed(); } };
  window.addEventListener('changed', watch);
}

let wait;
const later = (act) => { clearTimeout(wait); wait = setTimeout(act, 280); };

async function saveStation(params, years) {
  const dialog = document.getElementById('help');
  const name = h('input', { id: 'station', maxLength: 100, required: true, value: '' });
  const save = async (event) => {
    event.preventDefault();
    try {
      const made = await post('stations', { name: name.value, like: params.like, unlike: params.unlike, songs: Number(params.k), only_genre: params.only_genre ? [params.only_genre] : [], years: years || null, per_artist: Number(params.per_artist) || null, diversity: params.diversity || 0 });
      dialog.close();
      location.hash = `#/station/${encodeURIComponent(made.id)}`;
    } catch (error) { tell(error.message); }
  };
  dialog.replaceChildren(h('form', { onsubmit: save }, h('h2', { id: 'help-title' }, 'Save as a station'), h('p.soft.small', { style: { margin: '8px 0 14px' } }, 'It follows what is published: new songs come in by themselves.'),
    h('label.field', { htmlFor: 'station' }, 'Its name', name), h('div.row', { style: { marginTop: '18px' } }, h('button.button.main', { type: 'submit' }, 'Save'), h('button.button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'))));
  dialog.showModal();
  name.focus();
}

export async function station(main, { id }) {
  main.replaceChildren(loading(5));
  await fill(main, () => get(`stations/${encodeURIComponent(id)}`), ({ station: own, items }) => [heading(plain(own.name)), h('p.lead', {}, `A station of ${plural(own.like.length, 'seed')}. What it plays follows what is published.`), allButtons(items),
    h('div.row', { style: { marginBottom: '16px' } }, h('a.button.small', { href: address(`stations/${encodeURIComponent(id)}/m3u8`), download: '' }, icon('save'), 'M3U8 for a player'),
      state.status.read_only ? null : h('button.button.small', { type: 'button', onclick: async () => { try { await remove(`stations/${encodeURIComponent(id)}`); location.hash = '#/'; tell('The station is gone'); } catch (error) { tell(error.message); } } }, 'Remove')),
    songList(items, { scores: true, ranks: true, label: own.name })]);
}

export async function liked(main) {
  main.replaceChildren(heading('What you liked'), h('div', {}, loading(5)));
  await fill(main.lastElementChild, async () => { const feedback = await get('feedback'); return { feedback, told: feedback.more.length ? await get('recommended', { k: 50 }) : { items: [] } }; }, ({ feedback, told }) => [
    block('Recommended', null, told.items.length ? [allButtons(told.items), songList(told.items, { scores: true, ranks: true })] : h('p.soft', {}, 'Press "I like it" on a song.')),
    block('More of these', null, songList(feedback.more)), block('Less of these', null, songList(feedback.less))]);
}

// A path from one song to another

export async function path(main, { from, to }) {
  const ends = h('div.ends'), found = h('div'), length = h('input', { type: 'number', min: 3, max: 60, value: 8, 'aria-label': 'How many songs' });
  const chosen = { from: null, to: null };
  main.replaceChildren(heading('A path from one song to another'), h('p.lead', {}, 'Each step is a small one, and the last song is where you want to be.'), ends, found);
  const go = () => {
    if (!chosen.from || !chosen.to) return;
    const address = `#/path?from=${encodeURIComponent(chosen.from.track_id)}&to=${encodeURIComponent(chosen.to.track_id)}`;
    if (location.hash !== address) history.replaceState(null, '', address);
    fill(found, () => get('path', { from: chosen.from.track_id, to: chosen.to.track_id, songs: length.value }), (told) => [notes(told), allButtons(told.items), h('div.steps', {}, songList(told.items, { ranks: true, scores: true, label: 'The path' }))]);
  };
  length.addEventListener('change', go);
  for (const [side, id] of [['from', from], ['to', to]]) if (id) chosen[side] = await get(songPath(id)).catch(() => null);
  const show = () => ends.replaceChildren(picker('From', chosen.from, (one) => { chosen.from = one; show(); go(); }), picker('To', chosen.to, (one) => { chosen.to = one; show(); go(); }),
    h('label.field', { style: { maxWidth: '180px' } }, 'How many songs', length));
  show();
  go();
  if (!chosen.from || !chosen.to) found.replaceChildren(h('p.soft', { style: { marginTop: '24px' } }, 'Choose where it begins and where it ends.'));
}

let pickers = 0;
function picker(label, chosen, onpick) {
  const id = `pick-${pickers += 1}`, list = h('ul.songs', { hidden: true });
  const input = h('input', { id, type: 'search', placeholder: 'Type a song', autocomplete: 'off', maxLength: 200 });
  let asked = 0;
  input.addEventListener('input', () => later(async () => {
    const mine = asked += 1;
    if (!input.value.trim()) { list.hidden = true; return; }
    const { items } = await get('songs', { q: input.value, limit: 6 }).catch(() => ({ items: [] }));
    if (mine !== asked) return;
    list.replaceChildren(...(items.length ? items.map((one) => h('li', {}, h('button.chip', { type: 'button', style: { width: '100%', margin: '3px 0', textAlign: 'left' }, onclick: () => onpick(one) }, h('b', {}, title(one)), h('small', {}, artist(one))))) : [h('li.soft.small', {}, 'No song reads so.')]));
    list.hidden = false;
  }));
  return h('div', {}, h('label.field', { htmlFor: id }, label, chosen ? null : input), chosen ? h('div.chip', { style: { marginTop: '5px' } }, paint(h('span.cover', { style: { width: '28px', height: '28px', marginLeft: '-6px' } }), chosen), h('b', {}, title(chosen)), h('small', {}, artist(chosen)), h('button', { type: 'button', 'aria-label': `Another song than ${title(chosen)}`, onclick: () => onpick(null) }, icon('close'))) : list);
}

// The map

const COLORS = ['#e4572e', '#1f9e89', '#5b6ee1', '#d9a404', '#b04ac2', '#3fa34d', '#e0529c', '#2b8cbe', '#a6761d', '#7a52cc', '#c0392b', '#66a61e', '#e67e22', '#16a3b8', '#8d6e63', '#9aa51b'];

export async function map(main) {
  main.classList.add('wide');
  const frame = h('iframe', { src: 'page/map-frame.html', title: 'Map of the library; the groups below lead to the same songs', tabIndex: -1 });
  const hover = h('div.hover', { hidden: true, 'aria-hidden': 'true' }), picked = h('div.picked', { hidden: true });
  const legend = h('div.legend-list', { role: 'group', 'aria-label': 'Groups of the map' }), about = h('p.soft.small');
  const boxed = h('div.mapbox', {}, frame, hover, picked);
  main.replaceChildren(h('div.row', { style: { justifyContent: 'space-between' } }, heading('Map'), about), boxed, legend);
  let layout;
  try { layout = await get('map'); } catch (error) { boxed.replaceWith(failed(error)); return; }
  about.textContent = `${plural(layout.track_ids.length, 'song')}; what is near sounds alike. Drag to move, scroll to zoom, press a point.`;
  const slot = new Map(layout.clusters.map(({ cluster }, at) => [cluster, at % COLORS.length]));
  const none = COLORS.length, n = layout.track_ids.length;
  const dark = document.documentElement.dataset.theme === 'dark';
  const draw = () => frame.contentWindow.postMessage({ kind: 'draw', x: layout.x.map((x) => 0.94 * x), y: layout.y.map((y) => 0.94 * y), group: layout.cluster.map((own) => slot.get(own) ?? none), colors: [...COLORS, dark ? '#8f899a' : '#8d8794'], size: n > 20000 ? 2.5 : n > 2000 ? 5 : 11, opacity: n > 20000 ? 0.55 : 0.85, background: dark ? '#1b1a21' : '#ffffff', active: dark ? '#ffffff' : '#1c1a20' }, location.origin);
  const names = new Map();
  const nameOf = async (at) => { const id = layout.track_ids[at]; if (!names.has(id)) names.set(id, get(songPath(id)).catch(() => null)); return names.get(id); };
  const pick = async (at) => {
    const one = await nameOf(at);
    if (!one) return;
    const close = iconButton('close', 'Close', () => { picked.hidden = true; });
    picked.replaceChildren(h('ol.songs', {}, ...songList([one]).children), h('div.row', { style: { padding: '4px 10px 8px' } }, h('a.button.small.main', { href: linkTo(one) }, 'Songs like it'), h('a.button.small', { href: `#/path?from=${encodeURIComponent(one.track_id)}` }, icon('path'), 'Path from here'), close));
    picked.hidden = false;
  };
  const heard = async ({ data, origin, source }) => {
    if (!frame.isConnected) { window.removeEventListener('message', heard); return; }
    if (origin !== location.origin || source !== frame.contentWindow) return;
    if (data.kind === 'here') draw();
    else if (data.kind === 'drawn') boxed.dataset.drawn = String(data.points);
    else if (data.kind === 'failed') { frame.remove(); boxed.prepend(h('div.empty', {}, h('h2', {}, 'The map cannot be drawn here'), h('p.soft', {}, 'This browser has no WebGL. The groups below lead to the same songs.'))); }
    else if (data.kind === 'out') { hover.hidden = true; hover.dataset.at = ''; }
    else if (data.kind === 'select') pick(data.at);
    else if (data.kind === 'over') {
      hover.dataset.at = data.at;
      const one = await nameOf(data.at);
      if (!one || hover.dataset.at !== String(data.at)) return;
      hover.replaceChildren(h('b', {}, title(one)), h('div.soft', {}, artist(one)));
      const [x, y] = data.place || [20, 20];
      Object.assign(hover.style, { left: `${Math.min(x + 12, boxed.clientWidth - 220)}px`, top: `${Math.min(y + 12, boxed.clientHeight - 70)}px` });
      hover.hidden = false;
    }
  };
  window.addEventListener('message', heard);
  draw();
  const moving = !matchMedia('(prefers-reduced-motion: reduce)').matches;
  const shown = layout.clusters.slice().sort((a, b) => b.songs - a.songs).slice(0, 40);
  legend.append(h('button.chip', { type: 'button', onclick: () => frame.contentWindow?.postMessage({ kind: 'all' }, location.origin) }, h('b', {}, 'All')), ...shown.map(({ cluster, label, songs }) => h('button.chip', { type: 'button', onclick: () => {
    const points = layout.cluster.flatMap((own, at) => (own === cluster ? [at] : []));
    frame.contentWindow?.postMessage({ kind: 'zoom', points, moving }, location.origin);
    pick(points[0]);
  } }, h('span.dot', { style: { background: COLORS[slot.get(cluster)] } }), h('b', {}, plain(label)), h('small', {}, number(songs)))));
}

// The playlist

export async function playlist(main) {
  const show = () => {
    if (!main.dataset || main.dataset.view !== 'playlist') { window.removeEventListener('changed', show); return; }
    const songs = state.playlist;
    const move = (at, by) => { const next = songs.slice(); const [one] = next.splice(at, 1); next.splice(at + by, 0, one); setPlaylist(next); };
    const total = songs.reduce((sum, one) => sum + (one.duration_s || 0), 0);
    main.replaceChildren(...[heading('Playlist'), songs.length ? h('p.lead', {}, `${plural(songs.length, 'song')}, ${Math.round(total / 60)} minutes.`) : null,
      songs.length ? [allButtons(songs), h('div.row', {}, ['m3u8', 'jspf', 'json'].map((form) => h('button.button.small', { type: 'button', onclick: () => download(form) }, icon('save'), form.toUpperCase())), h('button.button.small', { type: 'button', onclick: () => setPlaylist([]) }, 'Empty it')),
        h('div', { style: { marginTop: '18px' } }, songList(songs, { ranks: true, label: 'Playlist', acts: (one, at) => [iconButton('up', `${title(one)} up`, () => move(at, -1), { disabled: at === 0, class: 'wide' }), iconButton('down', `${title(one)} down`, () => move(at, 1), { disabled: at === songs.length - 1, class: 'wide' }), iconButton('close', `${title(one)} out of the playlist`, () => removeFromPlaylist(one))] }))]
        : h('div.empty', {}, h('h2', {}, 'It is empty'), h('p.soft', {}, 'Songs come in by the list sign beside them, or whole answers by "All into the playlist".'), h('a.button.main', { href: '#/' }, 'Find a song'))].flat().filter(Boolean));
  };
  window.addEventListener('changed', show);
  show();
}

async function download(form) {
  const response = await fetch(address('playlist'), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ songs: state.playlist.map((one) => one.track_id), name: 'SimSong', format: form }) });
  if (!response.ok) { tell((await response.json().catch(() => ({}))).detail || 'It cannot be written.'); return; }
  const link = h('a', { href: URL.createObjectURL(await response.blob()), download: `SimSong.${form}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// The library: what it holds, what came through, the models, how good they are

export async function library(main) {
  const facts = h('div', {}, loading(1)), steps = h('div', {}, loading(4)), quality = h('div', {}, loading(3)), models = h('div', {}, loading(2)), artists = h('div', {});
  main.replaceChildren(heading('Library'), h('p.lead', {}, plain(state.status.published?.sentence || '')),
    block('What it holds', null, facts), block('What came through, and what did not', null, steps), block('How good it is', null, quality), block('Models', null, models), artists);
  fill(facts, () => get('catalogue'), catalogueFacts);
  fill(steps, () => get('funnel'), funnel);
  fill(quality, () => get('evaluation'), evaluation);
  fill(models, () => get('models'), modelTable);
  fill(artists, () => get('artists', { limit: 200 }), ({ items, total }) => block('Artists', h('span.soft.small', {}, plural(total, 'artist')), h('div.chips', {}, items.map((one) => h('a.chip', { href: `#/mix?artist=${encodeURIComponent(one.name)}` }, h('b', {}, plain(one.name)), h('small', {}, number(one.songs)))))));
}

const COVERED = { duration_s: 'with a duration', year: 'with a year', genres: 'with a genre', tags: 'with tags', lyrics: 'with lyrics', similars: 'with similar songs (Last.fm)', timbre: 'with timbre (MSD)', artist_terms: 'with terms on their artist' };
function catalogueFacts(told) {
  const fact = (n, words) => h('div.fact', {}, h('b', {}, number(n)), h('span', {}, words));
  const dropped = Object.entries(told.rejected || {}).filter(([, n]) => n);
  return [h('div.facts', {}, fact(told.selected, 'songs'), fact(told.artists, 'artists'), Object.entries(COVERED).filter(([key]) => told.covered?.[key]).map(([key, words]) => fact(told.covered[key], words)), told.duplicates ? fact(told.duplicates, 'marked as another\'s duplicate') : null),
    dropped.length ? h('p.soft.small', { style: { marginTop: '12px' } }, `Left out: ${dropped.map(([reason, n]) => `${number(n)} ${reason.replaceAll('_', ' ')}`).join(', ')}.`) : null];
}

const STAGES = { ingest: 'Catalogue', fetch_audio: 'Audio', fetch_lyrics: 'Lyrics', trim: 'Trimmed', segments: 'Passages', features: 'Features', traits: 'Traits', tag_scores: 'Tags heard', embed_lyrics: 'Lyrics read', train: 'Trained on', embed: 'Embedded', embed_timbre: 'Timbre', soundprints: 'Soundprints', compare: 'Recordings', choose: 'Model chosen', export: 'Published', index: 'Index', neighbours: 'Neighbours', artists: 'Artists', map: 'Map', evaluate: 'Measured', report: 'Report' };
const sum = (counts) => Object.values(counts || {}).reduce((a, b) => a + b, 0);
function stageLines(stages) {
  const most = Math.max(1, ...Object.values(stages).map((one) => one.ok + sum(one.failed) + sum(one.pending)));
  return h('div.scroll', {}, Object.entries(stages).map(([name, one]) => {
    const failedCount = sum(one.failed), pending = sum(one.pending);
    const reasons = [...Object.entries(one.failed || {}), ...Object.entries(one.pending || {})].map(([reason, n]) => `${number(n)} ${reason.replaceAll('_', ' ')}`).join(', ');
    return h('div.stage', {}, h('span', {}, STAGES[name] || name), h('span.bar', { 'aria-hidden': 'true' }, ['ok', 'pending', 'failed'].map((kind) => h(`i.${kind}`, { style: { width: `${100 * (kind === 'ok' ? one.ok : kind === 'failed' ? failedCount : pending) / most}%` } }))), h('span.n', {}, `${number(one.ok)} done`, reasons ? ` · ${reasons}` : ''));
  }));
}

function funnel({ stages, failures }) {
  return [stageLines(stages), failures.length ? h('div', { style: { marginTop: '16px' } }, h('h3', { style: { marginBottom: '10px' } }, 'What can be done'), failures.map((one) => h('div.todo', {}, h('b', {}, `${plural(one.songs, 'song')}: ${one.reason.replaceAll('_', ' ')} (${STAGES[one.stage] || one.stage})`), h('span.soft.small', {}, `Worth another try? ${plain(one.worth_retrying)}.`, one.song ? ` For example ${plain(one.song)}: ${plain(one.detail)}` : ''), one.command ? h('code', { tabIndex: 0 }, one.command) : null))) : h('p.soft.small', { style: { marginTop: '12px' } }, 'Every song came through.')];
}

const METHODS = { random: 'chance', same_artist: 'the same artist', mfcc: 'MFCC', lyrics: 'lyrics', untrained: 'untrained', ns: 'NS', wns: 'WNS', musicnn: 'musicnn', adapted: 'adapted', fusion: 'fusion' };
function evaluation(told) {
  const { protocol, methods } = told;
  const rows = Object.entries(methods).map(([name, own]) => [name, own['recall@10']]).filter(([, figure]) => figure && figure.value !== null);
  const published = state.status.published?.method;
  return [h('p.soft.small', { style: { marginBottom: '10px' } }, `Of the songs that count as alike (${plain(protocol.ground_truth)}), the share among the first 10; ${plural(protocol.queries, 'song')} asked, 95 % intervals.${protocol.claim ? '' : ' Too few for a claim.'}`),
    h('div.scroll', {}, rows.map(([name, { value, low, high }]) => h(`div.method${name === published ? '.best' : ''}`, {}, h('span', {}, METHODS[name] || name), h('span.track', { 'aria-hidden': 'true' }, low === null ? null : h('span.range', { style: { left: `${100 * low}%`, width: `${100 * (high - low)}%` } }), h('span.point', { style: { left: `${100 * value}%` } })), h('span.n', {}, value.toFixed(3), low === null ? '' : ` [${low.toFixed(3)}, ${high.toFixed(3)}]`))))];
}

function modelTable(rows) {
  if (!rows.length) return h('p.soft', {}, 'None was trained.');
  return h('div.scroll', { tabIndex: 0, role: 'region', 'aria-label': 'Models' }, h('table', {}, h('thead', {}, h('tr', {}, ['Model', 'Version', 'In use', 'Made', 'Songs', 'Steps'].map((name, at) => h(at > 3 ? 'th.n' : 'th', { scope: 'col' }, name)))),
    h('tbody', {}, rows.map((one) => h('tr', {}, h('th', { scope: 'row' }, one.name), h('td', {}, h('code', {}, one.version)), h('td', {}, one.promoted ? (one.pinned ? 'by hand' : 'yes') : ''), h('td', {}, (one.made_at || '').slice(0, 16).replace('T', ' ')), h('td.n', {}, one.songs ? number(one.songs) : ''), h('td.n', {}, one.steps ? number(one.steps) : ''))))));
}

export { stageLines, sum, reasonsOf };
