// What the page remembers in this browser: the playlist, the seeds of a mix, dark or light.

const kept = (key, fallback) => { try { return JSON.parse(localStorage.getItem(`simsong.${key}`)) ?? fallback; } catch { return fallback; } };
const keep = (key, value) => { try { localStorage.setItem(`simsong.${key}`, JSON.stringify(value)); } catch { /* it is full, or there is none */ } };
export const state = {
  status: null,
  playlist: kept('playlist', []).filter((song) => song && song.track_id),
  mix: { like: [], unlike: [], ...kept('mix', {}) },
  theme: kept('theme', null),
};

const changed = () => window.dispatchEvent(new Event('changed'));
export function setPlaylist(songs) { state.playlist = songs.slice(0, 500); keep('playlist', state.playlist); changed(); }
export const inPlaylist = (song) => state.playlist.some((one) => one.track_id === song.track_id);
export function addToPlaylist(songs) {
  const fresh = songs.filter((song) => !inPlaylist(song));
  setPlaylist([...state.playlist, ...fresh]);
  return fresh.length;
}
export const removeFromPlaylist = (song) => setPlaylist(state.playlist.filter((one) => one.track_id !== song.track_id));

export function setSeed(song, side) {
  const without = (list) => list.filter((one) => one.track_id !== song.track_id);
  state.mix = { like: without(state.mix.like), unlike: without(state.mix.unlike) };
  if (side) state.mix[side] = [...state.mix[side], song].slice(-50);
  keep('mix', state.mix);
  changed();
}
export const sideOf = (song) => ['like', 'unlike'].find((side) => state.mix[side].some((one) => one.track_id === song.track_id));
export function setTheme(theme) { state.theme = theme; keep('theme', theme); }
