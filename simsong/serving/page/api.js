// The API of the server that this page comes from.

export class Problem extends Error {
  constructor(told, status) {
    super(told.detail || 'The server did not answer as expected.');
    this.status = status;
    this.kind = (told.type || '').replace('/problems/', '');
    this.nearest = told.nearest || [];
  }
}

/** Args: params: values may be lists. Throws Problem. */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== null && one !== '') query.append(key, one);
  }
  return `api/${path}${query.size ? `?${query}` : ''}`;
}

export async function get(path, params, options = {}) { return send('GET', address(path, params), undefined, options); }
export async function post(path, body) { return send('POST', address(path), body); }
export async function put(path, body) { return send('PUT', address(path), body); }
export async function remove(path) { return send('DELETE', address(path)); }

export async function postFile(path, params, file) {
  return read(await fetch(address(path, params), { method: 'POST', body: file, headers: { 'Content-Type': 'application/octet-stream' } }));
}

async function send(method, url, body, options = {}) {
  let response;
  try {
    response = await fetch(url, { method, signal: options.signal, headers: body === undefined ? {} : { 'Content-Type': 'application/json' }, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem({ detail: 'The server cannot be reached. Is simsong serve still running?', type: '/problems/away' }, 0);
  }
  return read(response);
}

async function read(response) {
  if (response.status === 401 && !response.url.endsWith('/api/session')) window.dispatchEvent(new Event('locked'));
  if (response.status === 204) return null;
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(told, response.status);
  return told;
}

const id = encodeURIComponent;
export const audioOf = (song) => `api/songs/${id(song.track_id)}/audio`;
export const windowOf = (song, number) => `api/songs/${id(song.track_id)}/windows/${number}/audio`;
export const songPath = (trackId) => `songs/${id(trackId)}`;
