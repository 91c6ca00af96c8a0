//! The sound inside a page: what the model heard, as a WAV file of bounded size.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::audio::{SAMPLE_RATE, Waveform};

/// The most that the sound takes, before base64.
const BUDGET: usize = 1_200_000;
/// Before the samples of a file.
const HEADER: usize = 44;

/// WAV's numbers of encodings.
const PCM: u16 = 1;
const MU_LAW: u16 = 7;

pub(super) struct Player {
    wav: Vec<u8>,
    /// What is not as it was heard, in words.
    note: String,
}

impl Player {
    /// With 16 bits; a sound too long for that with 8 bits of mu-law, and of one
    /// too long for that, its beginning.
    pub fn new(sound: &Waveform) -> Self {
        let room = BUDGET - HEADER;
        let count = sound.samples.len();
        let fine = 2 * count <= room;
        let kept = if fine { count } else { count.min(room) };
        // Float files may exceed full scale: such a sound is played more softly.
        let peak = sound
            .samples
            .iter()
            .fold(1.0f32, |peak, x| peak.max(x.abs()));
        let samples = sound.samples[..kept].iter();
        let samples = samples.map(|x| (x / peak * 32_767.0).round() as i16);
        let data: Vec<u8> = match fine {
            true => samples.flat_map(i16::to_le_bytes).collect(),
            false => samples.map(mu_law).collect(),
        };
        let mut notes = Vec::new();
        if !fine {
            notes.push("It is played with 8 bits (mu-law) to keep this file small.".to_owned());
        }
        if kept < count {
            let seconds = kept as f64 / f64::from(SAMPLE_RATE);
            notes.push(format!("Only its first {seconds:.0} s are here."));
        }
        Self {
            wav: wav(
                &data,
                if fine { PCM } else { MU_LAW },
                if fine { 2 } else { 1 },
            ),
            note: notes.join(" "),
        }
    }

    pub fn bytes(&self) -> usize {
        self.wav.len()
    }

    /// The element that plays it; the script gives it a button and a line.
    pub fn markup(&self) -> String {
        let data = STANDARD.encode(&self.wav);
        let note = &self.note;
        format!(
            "<audio id=\"sound\" preload=\"auto\" data-note=\"{note}\" src=\"data:audio/wav;base64,{data}\"></audio>"
        )
    }
}

/// A mono file of samples that take so many `bytes` each.
fn wav(data: &[u8], encoding: u16, bytes: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + data.len());
    out.extend(b"RIFF");
    out.extend(((HEADER - 8 + data.len()) as u32).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend(encoding.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(SAMPLE_RATE.to_le_bytes());
    out.extend((SAMPLE_RATE * u32::from(bytes)).to_le_bytes());
    out.extend(bytes.to_le_bytes());
    out.extend((8 * bytes).to_le_bytes());
    out.extend(b"data");
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

/// ITU-T G.711.
fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let size = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (24 - size.leading_zeros()).min(7);
    let mantissa = (size >> (exponent + 3)) & 0x0f;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Sound;

    fn heard(player: &Player) -> Vec<f32> {
        Sound::decode(player.wav.clone())
            .unwrap()
            .waveform()
            .samples
            .clone()
    }

    fn tone(count: usize) -> Waveform {
        let samples = (0..count).map(|n| 0.5 * (n as f32 * 0.1).sin());
        Waveform {
            samples: samples.collect(),
        }
    }

    /// Read back by the program's own decoder.
    #[test]
    fn what_is_played_is_what_was_heard() {
        let sound = tone(400_000);
        let player = Player::new(&sound);
        assert_eq!(player.note, "");
        let worst = |player: &Player, sound: &Waveform| {
            let pairs = heard(player).into_iter().zip(&sound.samples);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert_eq!(heard(&player).len(), 400_000);
        assert!(worst(&player, &sound) < 1e-4);

        let long = tone(1_000_000);
        let player = Player::new(&long);
        assert_eq!(heard(&player).len(), 1_000_000);
        // G.711 keeps 4 bits below the first one.
        assert!(worst(&player, &long) <= 0.5 / 32.0 + 1e-4);
        assert!(player.note.contains("8 bits") && player.bytes() <= BUDGET);

        let longest = tone(2_000_000);
        let player = Player::new(&longest);
        assert_eq!(player.bytes(), BUDGET);
        assert!(player.note.ends_with("Only its first 75 s are here."));
    }

    #[test]
    fn loud_sounds_are_played_more_softly() {
        let player = Player::new(&Waveform {
            samples: vec![2.0, -1.0, 0.0],
        });
        let expected = [1.0, -0.5, 0.0];
        for (a, b) in heard(&player).into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}
