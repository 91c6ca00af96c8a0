//! Compressed sounds, by symphonia: FLAC, MP3, OGG, M4A, AAC, WebM; Opus by
//! opus-pure.

use std::io::{Cursor, ErrorKind};

use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_MP3, CODEC_ID_OPUS};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::edit_list::{self, Edit};
use super::mixing::{Mixed, Mixer};
use super::opus::{self, Opus};
use super::webm::Extent;
use super::{CONVERT, NO_SAMPLES, Warning, check_length, check_rate, mp3, ogg};
use crate::error::Problem;
use crate::outside::guarded;

/// Whose panics are caught.
const LIBRARY: &str = "symphonia";

/// The channels' mean, or what is wrong. `name` is the format's, for messages.
pub(super) fn decode(bytes: &[u8], name: &'static str) -> Result<Mixed, Problem> {
    let pieces = match name {
        "OGG" => ogg::links(bytes),
        "MP3" => mp3::pieces(bytes),
        _ => vec![bytes],
    };
    let mut decoding = Decoding {
        name,
        mixer: Mixer::default(),
        rate: None,
        length_known: true,
        delay_known: true,
        open: false,
    };
    let extent = match name {
        "WebM" => Extent::of(bytes),
        "MP4" => edit_list::extent(bytes),
        _ => Extent::Whole,
    };
    match extent {
        Extent::Whole => {}
        Extent::Cut => return Err(truncated(name).into()),
        Extent::Unknown => (decoding.length_known, decoding.open) = (false, true),
    }
    for piece in &pieces {
        decoding.take(piece)?;
    }
    let Some(rate) = decoding.rate.filter(|_| !decoding.mixer.mono.is_empty()) else {
        return Err(NO_SAMPLES.into());
    };
    let mut mixed = decoding.mixer.end(rate);
    if name == "MP3" && pieces.iter().any(|piece| mp3::is_changed(piece)) {
        mixed.warnings.push(Warning::Changed);
    }
    if pieces.len() > 1 {
        let count = pieces.len();
        mixed.warnings.push(Warning::Several { count });
    }
    if !decoding.length_known {
        mixed.warnings.push(Warning::LengthUnknown);
    }
    if !decoding.delay_known {
        mixed.warnings.push(Warning::DelayUnknown);
    }
    Ok(mixed)
}

/// The sounds of a file so far.
struct Decoding {
    name: &'static str,
    mixer: Mixer,
    rate: Option<u32>,
    /// Whether each says how long it is, or where it ends.
    length_known: bool,
    /// Whether each says how much silence stands before it.
    delay_known: bool,
    /// Whether the file's end is the sound's.
    open: bool,
}

impl Decoding {
    /// Adds the sound of a file, or of a part that could be one.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let name = self.name;
        if let Some(own) = Some(bytes).filter(|_| name == "OGG").and_then(ogg::opus) {
            self.at_rate(opus::RATE)?;
            opus::decode_ogg(&own, &mut self.mixer)?;
            return match ogg::ends(&own) {
                true => Ok(()),
                false => Err(truncated(name).into()),
            };
        }
        let options = (FormatOptions::default(), MetadataOptions::default());
        let source = MediaSourceStream::new(source(bytes, name), Default::default());
        let probe = || {
            let probe = symphonia::default::get_probe();
            probe.probe(&Hint::new(), source, options.0, options.1)
        };
        let mut reader = guarded(LIBRARY, probe)?.map_err(|e| describe(e, name))?;
        let track = reader
            .default_track(TrackType::Audio)
            .ok_or_else(|| format!("is {name} without a sound that can be decoded; {CONVERT}"))?;
        let (id, promised, delay) = (track.id, track.num_frames, track.delay);
        let parameters = track.codec_params.as_ref().and_then(|p| p.audio());
        let parameters =
            parameters.ok_or_else(|| format!("is {name} without a sound track; {CONVERT}"))?;
        let edit = (name == "MP4").then(|| Edit::read(bytes)).flatten();
        if parameters.codec == CODEC_ID_OPUS {
            let head = parameters.extra_data.as_deref();
            let head = head.and_then(|head| opus::Head::read(head, name == "MP4"));
            let head = head.ok_or_else(|| damaged(name, "it does not say how its Opus is made"))?;
            return self.opus(reader.as_mut(), id, &head, edit);
        }
        match parameters.codec {
            CODEC_ID_MP3 => self.delay_known &= delay.is_some(),
            CODEC_ID_AAC => self.delay_known &= edit.is_some(),
            // Nothing else has silence before it that an encoder put there.
            _ => {}
        }
        let options = AudioDecoderOptions::default().verify(true);
        let codecs = symphonia::default::get_codecs();
        let decoder = || codecs.make_audio_decoder(parameters, &options);
        let mut decoder = guarded(LIBRARY, decoder)?.map_err(|e| describe(e, name))?;

        let before = self.mixer.mono.len();
        self.packets(reader.as_mut(), decoder.as_mut(), id)?;
        let there = self.mixer.mono.len() - before;
        let verified = guarded(LIBRARY, || decoder.finalize())?.verify_ok;
        if verified == Some(false) {
            return Err(damaged(name, "its checksum does not fit").into());
        }
        if let Some(promised) = promised.filter(|&promised| (there as u64) < promised) {
            return Err(format!(
                "is truncated: it promises {promised} samples per channel, {there} are there; \
                 record or copy it again, or {CONVERT}"
            )
            .into());
        }
        if name == "OGG" && !ogg::ends(bytes) {
            return Err(truncated(name).into());
        }
        let known = promised.is_some() || verified == Some(true);
        self.length_known &= known || matches!(name, "OGG" | "WebM" | "MP4");
        self.cut(before, edit);
        Ok(())
    }

    /// Keeps what the file says is to be played of all since `before`.
    fn cut(&mut self, before: usize, edit: Option<Edit>) {
        let mono = &mut self.mixer.mono;
        if let (Some(edit), Some(rate)) = (edit, self.rate) {
            let keep = edit.samples(mono.len() - before, rate);
            mono.truncate(before + keep.end);
            mono.drain(before..before + keep.start);
        }
    }

    /// The next packet, until the file or its sound ends.
    fn next(&self, reader: &mut dyn FormatReader) -> Result<Option<Packet>, Problem> {
        match guarded(LIBRARY, || reader.next_packet())? {
            Err(Error::IoError(e)) if self.open && e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            packet => packet.map_err(|e| describe(e, self.name)),
        }
    }

    /// All sounds of a file have one rate.
    fn at_rate(&mut self, rate: u32) -> Result<(), Problem> {
        if *self.rate.get_or_insert(rate) != rate {
            return Err(format!("changes its sample rate on the way; {CONVERT}").into());
        }
        Ok(check_rate(rate)?)
    }

    /// Decodes packet by packet, so that only the mean takes memory.
    fn packets(
        &mut self,
        reader: &mut dyn FormatReader,
        decoder: &mut dyn AudioDecoder,
        track: u32,
    ) -> Result<(), Problem> {
        let name = self.name;
        let mut samples: Vec<f64> = Vec::new();
        while let Some(packet) = self.next(reader)? {
            if packet.track_id != track {
                continue;
            }
            let decode = || {
                let decoded = decoder.decode(&packet)?;
                decoded.copy_to_vec_interleaved(&mut samples);
                Ok((decoded.spec().rate(), decoded.num_planes()))
            };
            let decoded = guarded(LIBRARY, decode)?.map_err(|e| describe(e, name))?;
            let (rate, channels) = decoded;
            self.at_rate(rate)?;
            for frame in samples.chunks_exact(channels.max(1)) {
                let pushed = self.mixer.push(frame);
                pushed.map_err(|_| no_numbers(name))?;
            }
            check_length(self.mixer.mono.len(), rate)?;
        }
        Ok(())
    }

    /// Decodes Opus in a container that is not its own.
    fn opus(
        &mut self,
        reader: &mut dyn FormatReader,
        track: u32,
        head: &opus::Head,
        edit: Option<Edit>,
    ) -> Result<(), Problem> {
        self.at_rate(opus::RATE)?;
        let mut opus = Opus::new(head)?;
        let before = self.mixer.mono.len();
        // MP4 says the same in its list of edits, and where the sound ends.
        let skip = if edit.is_some() { 0 } else { head.pre_skip };
        let mut skip = usize::from(skip) * head.channels;
        while let Some(packet) = self.next(reader)? {
            if packet.track_id != track {
                continue;
            }
            let length = opus.decode(&packet.data)?.len();
            let begin = skip.min(length);
            skip -= begin;
            opus.mix(begin..length, &mut self.mixer)?;
        }
        self.cut(before, edit);
        Ok(())
    }
}

/// Of formats whose reader guesses the length from a file's size where it is
/// not stated, and then drops what comes after, the size is not told.
fn source<'a>(bytes: &'a [u8], name: &str) -> Box<dyn MediaSource + 'a> {
    match name {
        "MP3" | "AAC" => Box::new(ReadOnlySource::new(bytes)),
        _ => Box::new(Cursor::new(bytes)),
    }
}

/// What a decoder is that gives no finite numbers.
pub(super) fn no_numbers(name: &str) -> String {
    damaged(name, "it decodes to samples that are no numbers")
}

fn truncated(name: &str) -> String {
    format!(
        "is truncated {name}: it ends before its sound does; record or copy it again, or {CONVERT}"
    )
}

pub(super) fn damaged(name: &str, how: &str) -> String {
    format!("is damaged {name}: {how}; record or copy it again, or {CONVERT}")
}

/// A decoder's complaint, with what can be done.
fn describe(error: Error, name: &str) -> Problem {
    let text = match &error {
        Error::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => truncated(name),
        Error::Unsupported(what) => {
            format!("is {name} cut short or of a kind that is not supported ({what}); {CONVERT}")
        }
        Error::ResetRequired => format!("holds several sounds one after the other; {CONVERT}"),
        other => damaged(name, &other.to_string()),
    };
    Problem::new(text, error)
}
