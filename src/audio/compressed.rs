//! Compressed sounds, by symphonia: FLAC, MP3, OGG, M4A, AAC.

use std::io::{Cursor, ErrorKind};

use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_OPUS};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::edit_list::Edit;
use super::{CONVERT, NO_SAMPLES, check_length, check_rate};
use crate::error::Problem;

/// The channels' mean and the sample rate in Hz, or what is wrong. `name` is
/// the format's, for messages.
pub(super) fn decode(bytes: &[u8], name: &str) -> std::result::Result<(Vec<f32>, u32), Problem> {
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let mut reader = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            source,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .map_err(|e| describe(e, name))?;
    let track = reader
        .default_track(TrackType::Audio)
        .ok_or_else(|| format!("is {name} without a sound that can be decoded; {CONVERT}"))?;
    let (id, promised) = (track.id, track.num_frames);
    let parameters = track.codec_params.as_ref().and_then(|p| p.audio());
    let parameters =
        parameters.ok_or_else(|| format!("is {name} without a sound track; {CONVERT}"))?;
    if parameters.codec == CODEC_ID_OPUS {
        return Err(format!("holds Opus, which is not read yet; {CONVERT}").into());
    }
    let aac_in_mp4 = name == "MP4" && parameters.codec == CODEC_ID_AAC;
    let options = AudioDecoderOptions::default().verify(true);
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &options)
        .map_err(|e| describe(e, name))?;

    let (mut mono, rate) = mean(reader.as_mut(), decoder.as_mut(), id, name)?;
    if decoder.finalize().verify_ok == Some(false) {
        return Err(damaged(name, "its checksum does not fit").into());
    }
    let promised = promised.unwrap_or(0);
    if (mono.len() as u64) < promised {
        return Err(format!(
            "is truncated: it promises {promised} samples per channel, {} are there; record or \
             copy it again, or {CONVERT}",
            mono.len()
        )
        .into());
    }
    if name == "OGG" && !ogg_ends(bytes) {
        return Err(truncated(name).into());
    }
    if aac_in_mp4 && let Some(edit) = Edit::read(bytes) {
        let keep = edit.samples(mono.len(), rate);
        mono.truncate(keep.end);
        mono.drain(..keep.start);
    }
    if mono.is_empty() {
        return Err(NO_SAMPLES.into());
    }
    Ok((mono, rate))
}

/// Decodes packet by packet, so that only the mean takes memory.
fn mean(
    reader: &mut dyn FormatReader,
    decoder: &mut dyn AudioDecoder,
    track: u32,
    name: &str,
) -> std::result::Result<(Vec<f32>, u32), Problem> {
    let mut mono = Vec::new();
    let mut rate = None;
    let mut samples: Vec<f64> = Vec::new();
    while let Some(packet) = reader.next_packet().map_err(|e| describe(e, name))? {
        if packet.track_id != track {
            continue;
        }
        let decoded = decoder.decode(&packet).map_err(|e| describe(e, name))?;
        let (here, channels) = (decoded.spec().rate(), decoded.num_planes());
        if *rate.get_or_insert(here) != here {
            return Err(format!("changes its sample rate on the way; {CONVERT}").into());
        }
        check_rate(here)?;
        decoded.copy_to_vec_interleaved(&mut samples);
        for frame in samples.chunks_exact(channels.max(1)) {
            let sample = (frame.iter().sum::<f64>() / channels as f64) as f32;
            if !sample.is_finite() {
                return Err(damaged(name, "it decodes to samples that are no numbers").into());
            }
            mono.push(sample);
        }
        check_length(mono.len(), here)?;
    }
    Ok((mono, rate.ok_or(NO_SAMPLES)?))
}

/// Whether an OGG file's last page is whole and marked as the last.
fn ogg_ends(mut bytes: &[u8]) -> bool {
    const LAST: u8 = 4;
    let mut last = false;
    // What follows the pages, such as a tag, is no concern.
    while bytes.starts_with(b"OggS") {
        let Some((head, rest)) = bytes.split_at_checked(27) else {
            return false;
        };
        let Some((segments, rest)) = rest.split_at_checked(head[26].into()) else {
            return false;
        };
        let length = segments.iter().map(|&n| usize::from(n)).sum();
        let Some((_, rest)) = rest.split_at_checked(length) else {
            return false;
        };
        last = head[5] & LAST != 0;
        bytes = rest;
    }
    last
}

fn truncated(name: &str) -> String {
    format!(
        "is truncated {name}: it ends before its sound does; record or copy it again, or {CONVERT}"
    )
}

fn damaged(name: &str, how: &str) -> String {
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
