//! Recordings that are longer than a model hears at once: cut where they are
//! quiet, each piece heard as a sound of its own.

use std::ops::Range;

use super::Features;
use crate::Result;

/// A piece of a recording that was cut, in its features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// Its first frame in the features.
    pub begin: usize,
    pub frames: usize,
    /// Where in the recording it begins.
    pub start_seconds: f64,
}

/// Where a recording is cut, in samples. The rule is that of transformers'
/// `CohereAsrFeatureExtractor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cutting {
    /// Most of a piece; at least 1.
    pub most: usize,
    /// How much of a piece's end is searched for a quiet place; at least 1.
    pub searched: usize,
    /// Over how many the loudness is taken; at least 1.
    pub step: usize,
}

impl Cutting {
    /// The pieces, in order; all of the recording is in one of them. Of several
    /// pieces, the first that has fewer than `fewest` samples is an error.
    pub fn pieces(
        self,
        samples: &[f32],
        fewest: usize,
    ) -> std::result::Result<Vec<Range<usize>>, Range<usize>> {
        let mut pieces = Vec::new();
        let mut begin = 0;
        while samples.len() - begin > self.most {
            let end = begin + self.most;
            let first = end.saturating_sub(self.searched).max(begin);
            let cut = first + self.quietest(&samples[first..end]);
            // The reference's pieces are never empty.
            let piece = begin..cut.max(begin + 1);
            if piece.len() < fewest {
                return Err(piece);
            }
            begin = piece.end;
            pieces.push(piece);
        }
        let last = begin..samples.len();
        if !pieces.is_empty() && last.len() < fewest {
            return Err(last);
        }
        pieces.push(last);
        Ok(pieces)
    }

    /// Where the first of the quietest steps begins; the last one, whole or
    /// not, is none. The middle where there is no more than a step.
    fn quietest(self, samples: &[f32]) -> usize {
        let Some(upper) = samples.len().checked_sub(self.step).filter(|&own| own > 0) else {
            return samples.len() / 2;
        };
        let steps = (0..upper).step_by(self.step);
        let level = |begin: usize| {
            let own = &samples[begin..begin + self.step];
            let sum: f64 = own.iter().map(|&x| f64::from(x).powi(2)).sum();
            ((sum / self.step as f64) as f32).sqrt()
        };
        let quietest = steps.min_by(|&a, &b| level(a).total_cmp(&level(b)));
        quietest.unwrap_or_default()
    }
}

impl Features {
    /// Pieces of one recording behind each other, each with where it begins in
    /// seconds: (T, F).
    pub(super) fn joined(pieces: Vec<(f64, Self)>, bins: usize) -> Result<Self> {
        let mut all = Self::new(Vec::new(), 0, bins)?;
        for (start_seconds, piece) in pieces {
            all.pieces.push(Piece {
                begin: all.frames,
                frames: piece.frames,
                start_seconds,
            });
            all.data.extend(piece.data);
            all.power.extend(piece.power);
            all.frames += piece.frames;
        }
        all.sound_frames = all.frames;
        Ok(all)
    }

    /// The features of a piece of these, (T, F), and nothing else.
    pub fn piece(&self, piece: Piece) -> Result<Self> {
        let Piece { begin, frames, .. } = piece;
        let own = begin * self.bins..(begin + frames) * self.bins;
        let power = self.power.iter().skip(begin).take(frames);
        Ok(Self {
            power: power.copied().collect(),
            ..Self::new(self.data[own].to_vec(), frames, self.bins)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that is louder and quieter by turns.
    fn noise(count: usize) -> Vec<f32> {
        let value = |n: usize| {
            let level = 1.1 + (n as f64 * 0.0013).sin();
            let noise = (n * 7919 % 1009) as f64 / 504.5 - 1.0;
            (level * noise * 0.4) as f32
        };
        (0..count).map(value).collect()
    }

    /// Ends by transformers 5.23 for the same samples, with clips of `most`,
    /// `searched` and `step`.
    #[test]
    fn recordings_are_cut_where_the_reference_cuts_them() {
        for (count, [most, searched, step], ends) in [
            (
                40_000,
                [8000, 3200, 401],
                &[7206, 13_209, 18_009, 22_809, 27_609, 32_409, 40_000][..],
            ),
            (8000, [8000, 3200, 400], &[8000]),
            (8001, [8000, 3200, 400], &[7200, 8001]),
            (30_000, [11_200, 160, 1600], &[11_120, 22_240, 30_000]),
            (9001, [4000, 1, 1], &[3999, 7998, 9001]),
            (20_000, [6400, 800, 7], &[5635, 12_019, 18_165, 20_000]),
        ] {
            let cutting = Cutting {
                most,
                searched,
                step,
            };
            let pieces = cutting.pieces(&noise(count), 160).unwrap();
            let found: Vec<usize> = pieces.iter().map(|own| own.end).collect();
            assert_eq!(found, ends, "{cutting:?}");
            let begins = pieces.iter().map(|own| own.start);
            assert!(
                begins.eq([0]
                    .into_iter()
                    .chain(ends[..ends.len() - 1].iter().copied()))
            );
        }
        // What is equally quiet everywhere ends as early as it may.
        let published = Cutting {
            most: 560_000,
            searched: 80_000,
            step: 1600,
        };
        let pieces = published.pieces(&vec![0.0; 1_600_000], 160).unwrap();
        let found: Vec<usize> = pieces.iter().map(|own| own.end).collect();
        assert_eq!(found, [480_000, 960_000, 1_440_000, 1_600_000]);
        // The reference goes on with pieces of one sample.
        let searched = 600_000;
        let whole = Cutting {
            searched,
            ..published
        };
        assert_eq!(whole.pieces(&vec![0.0; 560_001], 2), Err(0..1));
    }

    #[test]
    fn pieces_stand_behind_each_other() {
        let features = |frames: usize, value: f32| {
            let mut own = Features::new(vec![value; frames * 2], frames, 2).unwrap();
            own.power = vec![value; frames];
            own
        };
        let parts = [features(3, 1.0), features(2, 2.0)];
        let begins = [0.0, 0.03];
        let all = Features::joined(begins.into_iter().zip(parts.clone()).collect(), 2).unwrap();
        assert_eq!((all.frames, all.sound_frames, all.pieces.len()), (5, 5, 2));
        all.check().unwrap();
        for ((piece, part), begin) in all.pieces.iter().zip(&parts).zip(begins) {
            assert_eq!(piece.start_seconds, begin);
            assert_eq!(&all.piece(*piece).unwrap(), part);
        }
    }
}
