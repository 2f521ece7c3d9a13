'use strict';
// The microphone, as 16-bit samples of one channel. It needs microphone.js at the same address as the page.
//
//   if (microphoneFault()) …                          // why there is none, a sentence
//   const microphone = await openMicrophone();        // asks the user; throws an Error with a sentence
//   microphone.rateHz; microphone.onblock = (samples, loudest) => …; microphone.onlost = () => …;
//   microphone.start(); await microphone.stop();      // samples: an ArrayBuffer
//   wavFile(blocks, rateHz)                           // blocks as they came → a Blob

const WANTED_RATE_HZ = 16000; // enough for speech, and less than what a microphone gives

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
