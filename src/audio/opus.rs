//! Opus, by opus-pure: in OGG, and packets from other containers.

use std::ops::Range;

use opus_pure::{MAX_PACKET_SAMPLES, OggOpusReader, OpusDecoder, OpusMSDecoder, Trim};

use super::compressed;
use super::mixing::Mixer;
use super::{CONVERT, check_length};
use crate::error::Problem;
use crate::outside::guarded;

/// Whose panics are caught.
const LIBRARY: &str = "opus-pure";

/// Opus decodes to any of its rates; this one is its own, in Hz.
pub(super) const RATE: u32 = 48_000;

/// Of mono and stereo, and of more channels.
enum Decoder {
    Plain(Box<OpusDecoder>),
    Surround(OpusMSDecoder),
}

/// Decodes packets into frames of `channels`.
pub(super) struct Opus {
    decoder: Decoder,
    channels: usize,
    /// A packet's samples, interleaved.
    block: Vec<f32>,
    frame: Vec<f64>,
}

/// What a decoder has to know of a stream.
pub(super) struct Head {
    pub channels: usize,
    /// In samples at [`RATE`].
    pub pre_skip: u16,
    /// In units of 1/256 dB.
    gain: i16,
    family: u8,
    /// All streams of a packet, and those of two channels.
    streams: (usize, usize),
}

impl Head {
    /// From the identification header (RFC 7845, 5.1). MP4's is the same with
    /// the bytes of numbers in the other order.
    pub fn read(bytes: &[u8], in_mp4: bool) -> Option<Self> {
        let head: &[u8; 19] = bytes.first_chunk()?;
        let channels = usize::from(head[9]);
        let family = head[18];
        let number = |at: usize| match in_mp4 {
            true => u16::from_be_bytes([head[at], head[at + 1]]),
            false => u16::from_le_bytes([head[at], head[at + 1]]),
        };
        let streams = match family {
            0 => (1, channels.checked_sub(1)?),
            _ => (usize::from(*bytes.get(19)?), usize::from(*bytes.get(20)?)),
        };
        head.starts_with(b"OpusHead").then_some(Self {
            channels,
            pre_skip: number(10),
            gain: number(16) as i16,
            family,
            streams,
        })
    }
}

impl Opus {
    pub fn new(head: &Head) -> Result<Self, Problem> {
        let channels = head.channels;
        let decoder = match head.family {
            0 => {
                let decoder = || OpusDecoder::new(RATE as i32, channels);
                let mut decoder = guarded(LIBRARY, decoder)?.map_err(damaged)?;
                decoder.gain_q8 = head.gain.into();
                Decoder::Plain(Box::new(decoder))
            }
            family => {
                let layout = || {
                    format!(
                        "holds Opus of {channels} channels in a layout that is not read; {CONVERT}"
                    )
                };
                let decoder = || OpusMSDecoder::new(RATE as i32, channels, family);
                let mut decoder =
                    guarded(LIBRARY, decoder)?.map_err(|cause| Problem::new(layout(), cause))?;
                // Which channel is where is the same to their mean.
                let known = decoder.layout();
                if (known.nb_streams, known.nb_coupled_streams) != head.streams {
                    return Err(layout().into());
                }
                for stream in decoder.streams_mut() {
                    stream.gain_q8 = head.gain.into();
                }
                Decoder::Surround(decoder)
            }
        };
        Ok(Self {
            decoder,
            channels,
            block: vec![0.0; MAX_PACKET_SAMPLES * channels],
            frame: vec![0.0; channels],
        })
    }

    /// Decodes a packet; the values of its samples, interleaved.
    pub fn decode(&mut self, packet: &[u8]) -> Result<&[f32], Problem> {
        // To the decoder that is a lost packet, which it fills with what came before.
        if packet.is_empty() {
            return Err(compressed::damaged("Opus", "a packet is empty").into());
        }
        let block = &mut self.block;
        let decoder = &mut self.decoder;
        let count = guarded(LIBRARY, || match decoder {
            Decoder::Plain(decoder) => decoder.decode(packet, MAX_PACKET_SAMPLES, block),
            Decoder::Surround(decoder) => decoder.decode(packet, MAX_PACKET_SAMPLES, block),
        });
        let count = count?.map_err(damaged)?;
        Ok(&self.block[..(count * self.channels).min(self.block.len())])
    }

    /// Gives what is kept of the last packet's values to a mixer.
    pub fn mix(&mut self, kept: Range<usize>, mixer: &mut Mixer) -> Result<(), Problem> {
        let kept = self.block.get(kept).unwrap_or_default();
        for samples in kept.chunks_exact(self.channels) {
            for (value, &sample) in self.frame.iter_mut().zip(samples) {
                *value = sample.into();
            }
            if mixer.push(&self.frame).is_err() {
                return Err(compressed::no_numbers("Opus").into());
            }
        }
        Ok(check_length(mixer.mono.len(), RATE)?)
    }
}

/// Decodes an OGG file of one sound. Its page sums are checked.
pub(super) fn decode_ogg(bytes: &[u8], mixer: &mut Mixer) -> Result<(), Problem> {
    let mut reader = guarded(LIBRARY, || OggOpusReader::new(bytes))?.map_err(damaged)?;
    let head = reader.head();
    let head = Head {
        channels: head.channel_count.into(),
        pre_skip: head.pre_skip,
        gain: head.output_gain_q8,
        family: head.mapping_family,
        streams: (head.stream_count.into(), head.coupled_count.into()),
    };
    let trim = || Trim::new(reader.head(), RATE as i32, head.channels);
    let mut trim = guarded(LIBRARY, trim)?.map_err(damaged)?;
    let mut opus = Opus::new(&head)?;
    let mut packets = reader.packets();
    while let Some(packet) = guarded(LIBRARY, || packets.next())? {
        let packet = packet.map_err(damaged)?;
        let length = opus.decode(&packet.data)?.len();
        let kept = guarded(LIBRARY, || trim.keep_range(&packet, length))?;
        opus.mix(kept, mixer)?;
    }
    Ok(())
}

fn damaged(cause: opus_pure::Error) -> Problem {
    Problem::new(compressed::damaged("Opus", &cause.to_string()), cause)
}
