// A list of songs, each with what can be done with it; and why two are alike.
import { audioOf, get, windowOf } from './api.js';
import { artist, clock, failed, h, icon, iconButton, loading, paint, plain, tell, title } from './dom.js';
import { isPlaying, play, playClip, player } from './player.js';
import { addToPlaylist, inPlaylist, removeFromPlaylist, setSeed, sideOf } from './state.js';

export const linkTo = (song) => `#/song/${encodeURIComponent(song.track_id)}`;

export function coverOf(song, queue, big = false) {
  const label = () => `${isPlaying(song) ? 'Pause' : 'Play'} ${title(song)} by ${artist(song)}`;
  const node = song.has_audio
    ? h(`button.cover${big ? '.big' : ''}`, { type: 'button', 'aria-label': label(), onclick: () => play(song, queue?.() || [song]) }, icon('play'))
    : h(`div.cover.none${big ? '.big' : ''}`, { title: 'It cannot be listened to here' });
  if (song.has_audio) {
    const show = () => {
      if (!node.isConnected && node.wasShown) { window.removeEventListener('playing', show); return; }
      node.wasShown = node.isConnected;
      node.replaceChildren(icon(isPlaying(song) ? 'pause' : 'play'));
      node.setAttribute('aria-label', label());
      node.closest('.song')?.classList.toggle('playing', player.song?.track_id === song.track_id);
    };
    window.addEventListener('playing', show);
    setTimeout(show);
  }
  return paint(node, song);
}

/** Args: options: against: the song that `why` compares with; scores; ranks; acts: more buttons of a song. */
export function songList(songs, options = {}) {
  const queue = () => songs;
  return h('ol.songs', { 'aria-label': options.label || 'Songs' }, songs.map((song, at) => songRow(song, at, queue, options)));
}

function songRow(song, at, queue, options) {
  const row = h('li.song');
  const score = options.scores && song.score !== null && song.score !== undefined;
  const shown = score ? Math.max(0, Math.min(1, song.score)) : 0;
  const line = h('div.line', {},
    options.ranks ? h('span.rank', { 'aria-hidden': 'true' }, String(at + 1)) : null,
    coverOf(song, queue),
    h('div.names', {}, h('a', { href: linkTo(song), title: title(song) }, title(song)), h('span', {}, artist(song), song.album ? ` · ${plain(song.album)}` : '')),
    h('span.genre', {}, song.genres?.[0] ? plain(song.genres[0]) : ''),
    score ? h('div.score', { title: 'How alike: 1 is the same' }, h('span', { 'aria-label': `likeness ${song.score.toFixed(2)}` }, song.score.toFixed(2)), h('span.bar', { 'aria-hidden': 'true' }, h('i', { style: { width: `${100 * shown}%` } }))) : null,
    h('span.time', {}, clock(song.duration_s)),
    h('div.acts', {}, options.against ? whyButton(row, song, options.against) : null, ...(options.acts ? options.acts(song, at) : [
      seedButton('plus', 'like', song), seedButton('minus', 'unlike', song), listButton(song)])));
  row.append(line);
  if (player.song?.track_id === song.track_id) row.classList.add('playing');
  return row;
}

export function seedButton(name, side, song, label) {
  const words = side === 'like' ? 'More like' : 'Less like';
  const node = label
    ? h('button.button.small', { type: 'button', 'aria-pressed': String(sideOf(song) === side) }, icon(name), label)
    : iconButton(name, `${words} ${title(song)}, in the mix`, undefined, { 'aria-pressed': String(sideOf(song) === side), class: side === 'unlike' ? 'wide' : '' });
  node.addEventListener('click', () => {
    const on = sideOf(song) !== side;
    setSeed(song, on ? side : null);
    tell(on ? `${words} ${title(song)}: it is in your mix` : `${title(song)} has left your mix`);
  });
  follow(node, () => node.setAttribute('aria-pressed', String(sideOf(song) === side)));
  return node;
}

export function listButton(song, label) {
  const node = label
    ? h('button.button.small', { type: 'button', 'aria-pressed': String(inPlaylist(song)) }, icon('list'), label)
    : iconButton('list', `${title(song)} into the playlist`, undefined, { 'aria-pressed': String(inPlaylist(song)) });
  node.addEventListener('click', () => {
    if (inPlaylist(song)) { removeFromPlaylist(song); tell(`${title(song)} has left the playlist`); } else { addToPlaylist([song]); tell(`${title(song)} is in the playlist`); }
  });
  follow(node, () => node.setAttribute('aria-pressed', String(inPlaylist(song))));
  return node;
}

function follow(node, show) {
  let shown = false;
  const listener = () => { if (node.isConnected) { shown = true; show(); } else if (shown) window.removeEventListener('changed', listener); };
  window.addEventListener('changed', listener);
}

function whyButton(row, song, against) {
  const node = iconButton('why', `Why ${title(song)} is like ${title(against)}`, undefined, { 'aria-expanded': 'false' });
  node.addEventListener('click', async () => {
    const open = node.getAttribute('aria-expanded') === 'true';
    node.setAttribute('aria-expanded', String(!open));
    row.classList.toggle('open', !open);
    row.querySelector('.why')?.remove();
    if (open) return;
    const panel = h('div.why', {}, loading(2));
    row.append(panel);
    try { panel.replaceChildren(...reasonsOf(await get('why', { a: against.track_id, b: song.track_id, windows: 1 }))); } catch (error) { panel.replaceChildren(failed(error)); }
  });
  return node;
}

const ASPECTS = { audio: 'Sound', lyrics: 'Lyrics', genre: 'Genre', tags: 'Tags', artist: 'Artist', album: 'Album', listeners: 'Listeners' };

export function reasonsOf(why) {
  const closer = (reason) => reason.closer_than === null ? '' : reason.closer_than >= 0.995 ? '; closer than nearly any other song' : `; closer than ${Math.round(100 * reason.closer_than)} % of other songs`;
  const reasons = why.reasons.map((reason) => h('div', {},
    h('div.head', {}, h('span', {}, ASPECTS[reason.aspect] || reason.aspect), reason.score === null ? null : h('span', {}, reason.score.toFixed(2))),
    reason.score === null ? null : h('span.bar', { 'aria-hidden': 'true' }, h('i', { style: { width: `${100 * Math.max(0, Math.min(1, reason.score))}%` } })),
    h('p.soft.small', {}, plain(reason.detail), closer(reason))));
  const sound = why.reasons.find((reason) => reason.aspect === 'audio');
  const pair = why.windows[0];
  const heard = pair && why.a.has_audio && why.b.has_audio;
  return [
    h('div.reasons', {}, h('h3', {}, 'What they share'), reasons),
    h('div.pair', {}, h('h3', {}, 'Where they agree most'),
      pair ? [h('p.soft.small', {}, heard ? 'Listen to just these two passages.' : 'These two passages.'), clipOf(why.a, pair.a, heard), clipOf(why.b, pair.b, heard),
        h('p.soft.small', {}, `These passages are ${pair.score.toFixed(2)} alike, the whole songs ${sound?.score?.toFixed(2) ?? '–'}.`)]
        : h('p.soft.small', {}, 'Nothing is known of their parts.')),
  ];
}

function clipOf(song, window, heard) {
  const wave = h('div.wave');
  const node = h('div.clip', {}, h('span.name', { style: { gridColumn: '2' } }, `${title(song)} · ${clock(window.start_s)}–${clock(window.end_s)}`), wave);
  if (!heard) return node;
  const button = iconButton('play', `Play ${title(song)} from ${clock(window.start_s)} to ${clock(window.end_s)}`);
  node.prepend(button);
  waveform(wave, windowOf(song, window.number), 44).then((surfer) => {
    button.addEventListener('click', () => playClip(surfer));
    surfer.on('play', () => button.replaceChildren(icon('pause')));
    surfer.on('pause', () => button.replaceChildren(icon('play')));
    surfer.on('finish', () => button.replaceChildren(icon('play')));
  }).catch(() => { wave.textContent = 'It cannot be drawn here.'; });
  return node;
}

/** Args: media: an element that plays it already. */
export async function waveform(node, url, height, media) {
  const { default: WaveSurfer } = await import('./vendor/wavesurfer.js');
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const surfer = WaveSurfer.create({ container: node, height, url, media, barWidth: 2, barGap: 1, barRadius: 2, cursorWidth: 1, normalize: true, waveColor: color('--soft'), progressColor: color('--accent'), cursorColor: color('--accent') });
  return surfer;
}
export const wholeUrl = audioOf;
