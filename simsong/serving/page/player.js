// One audio element, and the bar that shows it. Songs come in a queue: the list they were started from.
import { audioOf } from './api.js';
import { artist, clock, h, iconButton, icon, paint, tell, title } from './dom.js';

const audio = new Audio();
audio.preload = 'metadata';
export const player = { audio, song: null, queue: [], at: -1 };
const box = document.getElementById('player');
const told = () => window.dispatchEvent(new Event('playing'));
let parts = null;
let clip = null;

function build() {
  const cover = h('div.cover');
  const name = h('a', {}), by = h('span.by', {});
  const play = h('button.icon.play', { type: 'button', onclick: toggle });
  const seek = h('input', { type: 'range', min: 0, max: 1000, value: 0, 'aria-label': 'Place in the song' });
  const now = h('span', {}, '0:00'), end = h('span', {}, '');
  seek.addEventListener('input', () => { if (isFinite(audio.duration)) audio.currentTime = seek.value / 1000 * audio.duration; });
  box.replaceChildren(
    h('div.now', {}, cover, h('div.names', {}, name, by)),
    h('div.row', { style: { flexWrap: 'nowrap', gap: '2px' } }, iconButton('prev', 'The song before', () => step(-1)), play, iconButton('next', 'The next song', () => step(1))),
    h('div.seek', {}, now, seek, end),
    h('div.extra', {}, iconButton('close', 'Close the player', stop)));
  parts = { cover, name, by, play, seek, now, end };
}

function show() {
  const on = Boolean(player.song);
  box.hidden = !on;
  document.documentElement.style.setProperty('--bar', on ? `${box.offsetHeight}px` : '0px');
  if (!on) return;
  paint(parts.cover, player.song);
  parts.name.textContent = title(player.song);
  parts.name.href = `#/song/${encodeURIComponent(player.song.track_id)}`;
  parts.by.textContent = artist(player.song);
  parts.play.replaceChildren(icon(audio.paused ? 'play' : 'pause'));
  parts.play.setAttribute('aria-label', audio.paused ? 'Play' : 'Pause');
}

export const isPlaying = (song) => player.song?.track_id === song.track_id && !audio.paused;

export function play(song, queue = [song]) {
  if (!song.has_audio) { tell('This song cannot be listened to here.'); return; }
  stopClip();
  if (player.song?.track_id === song.track_id) { toggle(); return; }
  if (!parts) build();
  player.queue = queue.filter((one) => one.has_audio);
  player.at = player.queue.findIndex((one) => one.track_id === song.track_id);
  player.song = song;
  audio.src = audioOf(song);
  audio.play().catch(() => {});
  if ('mediaSession' in navigator) navigator.mediaSession.metadata = new MediaMetadata({ title: title(song), artist: artist(song), album: song.album || '' });
  show();
  told();
}

export function toggle() {
  if (!player.song) return;
  stopClip();
  if (audio.paused) audio.play().catch(() => {}); else audio.pause();
}
export function step(by) { const next = player.queue[player.at + by]; if (next) play(next, player.queue); }
export function seekBy(s) { if (player.song && isFinite(audio.duration)) audio.currentTime = Math.min(Math.max(audio.currentTime + s, 0), audio.duration - 0.1); }
export function stop() { audio.pause(); audio.removeAttribute('src'); player.song = null; show(); told(); }

/** A short piece of a song, which is heard instead of what plays. Args: surfer: a WaveSurfer. */
export function playClip(surfer) {
  if (clip === surfer && surfer.isPlaying()) { surfer.pause(); return; }
  stopClip();
  audio.pause();
  clip = surfer;
  surfer.play().catch(() => {});
}
export function stopClip() { if (clip) { try { clip.pause(); } catch { /* it is gone */ } } clip = null; }

for (const kind of ['play', 'pause']) audio.addEventListener(kind, () => { show(); told(); });
audio.addEventListener('timeupdate', () => {
  if (!parts || !isFinite(audio.duration)) return;
  parts.now.textContent = clock(audio.currentTime);
  parts.end.textContent = clock(audio.duration);
  parts.seek.value = 1000 * audio.currentTime / audio.duration;
  parts.seek.setAttribute('aria-valuetext', `${clock(audio.currentTime)} of ${clock(audio.duration)}`);
});
audio.addEventListener('ended', () => { if (player.at + 1 < player.queue.length) step(1); });
audio.addEventListener('error', () => { if (player.song && audio.getAttribute('src')) tell(`${title(player.song)} cannot be played here.`); });
window.addEventListener('resize', show);
if ('mediaSession' in navigator) {
  const actions = { play: toggle, pause: toggle, previoustrack: () => step(-1), nexttrack: () => step(1) };
  for (const [name, act] of Object.entries(actions)) { try { navigator.mediaSession.setActionHandler(name, act); } catch { /* not known here */ } }
}
