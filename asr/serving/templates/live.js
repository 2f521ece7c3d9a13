'use strict';
// The stream to the server.
//
//   const stream = new Stream({model, sample_rate_hz, hotwords}, token);
//   stream.addEventListener('message', ({detail}) => …);   // what the server says, see docs/serving.md
//   stream.addEventListener('closed', ({detail}) => …);    // detail: a sentence, or '' after a good end
//   stream.send(samples); stream.end();

const MOST_WAITING_BYTES = 4 << 20; // that a slow connection has not taken

class Stream extends EventTarget {
  constructor(start, token) {
    super();
    this.said = ''; // the server's reason for an early end
    this.finished = false;
    const url = new URL('v1/stream', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    // A browser cannot give a WebSocket headers, so the token is in the name of a protocol.
    this.socket = new WebSocket(url, token ? ['asr', `bearer.${asProtocol(token)}`] : []);
    this.socket.binaryType = 'arraybuffer';
    this.waiting = []; // what is to be sent once the connection is open
    this.socket.addEventListener('open', () => {
      this.socket.send(JSON.stringify(start));
      this.waiting.splice(0).forEach((content) => this.socket.send(content));
    });
    this.socket.addEventListener('message', ({data}) => this.heard(JSON.parse(data)));
    this.socket.addEventListener('close', (event) => this.closed(event));
  }

  send(content) {
    if (this.socket.readyState === WebSocket.CONNECTING) this.waiting.push(content);
    else if (this.socket.readyState === WebSocket.OPEN) this.socket.send(content);
    if (this.socket.bufferedAmount > MOST_WAITING_BYTES) {
      this.said = 'The connection is too slow for live sound.';
      this.socket.close();
    }
  }

  end() {
    this.send(JSON.stringify({type: 'end'}));
  }

  close() {
    this.finished = true;
    this.socket.close();
  }

  heard(message) {
    if (message.type === 'error') this.said = message.message;
    if (message.type === 'end') this.finished = true;
    this.dispatchEvent(new CustomEvent('message', {detail: message}));
  }

  closed(event) {
    const lost = event.code === 1006 ? 'The server cannot be reached, or refuses the token.' : event.reason;
    const detail = this.finished ? '' : this.said || lost || 'The connection was closed.';
    this.dispatchEvent(new CustomEvent('closed', {detail}));
  }
}

/** Return a token in the characters that the name of a protocol may have. */
function asProtocol(token) {
  return encodeURIComponent(token).replace(/[()]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`);
}
