'use strict';
// The microphone, and the stream to the server.
//
//   const microphone = await openMicrophone();        // asks the user; throws an Error with a sentence
//   microphone.rateHz; microphone.onblock = (samples, loudest) => …; await microphone.stop();
//
//   const stream = new Stream({model, sample_rate_hz, hotwords}, token);
//   stream.addEventListener('message', ({detail}) => …);   // what the server says, see docs/serving.md
//   stream.addEventListener('closed', ({detail}) => …);    // detail: a sentence, or '' after a good end
//   stream.send(samples); stream.end();

const WANTED_RATE_HZ = 16000; // less to send than what a microphone gives
const MOST_WAITING_BYTES = 4 << 20; // that a slow connection has not taken

/** Return why this page cannot use a microphone; '' if it can. */
function microphoneFault() {
  if (!window.isSecureContext) {
    return 'Browsers give the microphone only to pages of this machine (localhost) or with https. Files can be transcribed here.';
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return 'This browser gives pages no microphone. Files can be transcribed here.';
  }
  return '';
}

/** Open the microphone, with its sound as it is. */
async function openMicrophone() {
  const audio = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({audio});
  } catch (error) {
    throw new Error(microphoneReason(error));
  }
  const {context, source} = connect(media);
  const close = async () => {
    media.getTracks().forEach((track) => track.stop());
    await context.close();
  };
  try {
    await context.audioWorklet.addModule('microphone.js');
  } catch {
    await close();
    throw new Error('The server cannot be reached. Is it still running?');
  }
  const node = new AudioWorkletNode(context, 'microphone', {numberOfOutputs: 0});
  const microphone = {rateHz: context.sampleRate, onblock: () => {}, onlost: () => {}};
  const ended = new Promise((resolve) => {
    node.port.onmessage = ({data}) => (data.ended ? resolve() : microphone.onblock(data.samples, data.loudest));
  });
  media.getAudioTracks()[0].addEventListener('ended', () => microphone.onlost());
  microphone.start = () => source.connect(node);
  microphone.stop = async () => {
    node.port.postMessage('end');
    await ended;
    await close();
  };
  return microphone;
}

/** Let the browser resample to the wanted rate; where it does not, take the microphone's own. */
function connect(media) {
  const context = new AudioContext({sampleRate: WANTED_RATE_HZ});
  try {
    return {context, source: context.createMediaStreamSource(media)};
  } catch {
    context.close();
    const own = new AudioContext();
    return {context: own, source: own.createMediaStreamSource(media)};
  }
}

function microphoneReason(error) {
  if (error.name === 'NotAllowedError') return 'The browser was told not to give this page the microphone.';
  if (error.name === 'NotFoundError') return 'No microphone was found.';
  return `The microphone cannot be used (${error.message || error.name}).`;
}

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

/** Return 16-bit samples of one channel as a WAV file. */
function wavFile(blocks, rateHz) {
  const bytes = blocks.reduce((sum, block) => sum + block.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (place, letters) => [...letters].forEach((letter, at) => header.setUint8(place + at, letter.charCodeAt(0)));
  text(0, 'RIFF');
  header.setUint32(4, 36 + bytes, true);
  text(8, 'WAVEfmt ');
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rateHz, true);
  header.setUint32(28, 2 * rateHz, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, 'data');
  header.setUint32(40, bytes, true);
  return new Blob([header, ...blocks], {type: 'audio/wav'});
}
