//! Which frames of a sound are silence, by its level.

/// Below the loudest speech by so much, in decibels, nothing is speech.
const BELOW_SPEECH: f64 = 35.0;
/// Where the background is that far below speech, silence ends at this share
/// of the way from one to the other.
const ABOVE_BACKGROUND: f64 = 0.3;
/// Decibels between background and speech, at least: with less between them
/// they cannot be told apart.
const CONTRAST: f64 = 15.0;
/// Decibels below speech beyond which there is no background either: samples
/// that are 0, put in front of a recording.
const NOTHING: f64 = 60.0;
/// Decibels below full scale: a sound that is nowhere louder is silence.
const SILENT_SOUND: f64 = -65.0;
/// Levels are averaged over so many seconds: a background goes up and down.
const SMOOTH_SECONDS: f64 = 0.1;
/// How far around the bound both are possible, in decibels.
const SOFTNESS: f64 = 3.0;
/// Speech is as loud as the loudest frames of so many seconds together, or of
/// this share of the sound if that is less; clicks are shorter.
const LOUD_SECONDS: f64 = 0.25;
const LOUD_SHARE: f64 = 0.05;
/// The background is as loud as the softest frames of this share.
const SOFT_SHARE: f64 = 0.05;

/// How probable silence is in each of `frames` frames of `frame_seconds`, 0 to
/// 1, from the [power](crate::features::power) of the sound's feature frames, of
/// which each is covered by one of `frames`. Empty if nothing is known.
pub fn silence(power: &[f32], frames: usize, frame_seconds: f64) -> Vec<f64> {
    if power.is_empty() || frames == 0 {
        return Vec::new();
    }
    let levels: Vec<f64> = (0..frames)
        .map(|j| {
            let own = crate::ops::pooled_frames(j, power.len(), frames);
            let own = &power[own];
            let mean = own.iter().map(|&x| f64::from(x)).sum::<f64>() / own.len().max(1) as f64;
            10.0 * (mean + 1e-10).log10()
        })
        .collect();
    let speech = speech(&levels, frame_seconds);
    if speech < SILENT_SOUND {
        return vec![1.0; frames];
    }
    let least = speech - NOTHING;
    let bound = bound(&levels, speech);
    let levels: Vec<f64> = levels.into_iter().map(|level| level.max(least)).collect();
    let levels = smoothed(&levels, (SMOOTH_SECONDS / frame_seconds / 2.0) as usize);
    let probability = |level: f64| 1.0 / (1.0 + ((level - bound) / SOFTNESS).exp());
    levels.into_iter().map(probability).collect()
}

/// Means over each value and so many on both sides; the ends go on as they are.
fn smoothed(levels: &[f64], side: usize) -> Vec<f64> {
    let last = levels.len() - 1;
    let at = |j: usize| levels[j.saturating_sub(side).min(last)];
    let mean = |j: usize| (j..=j + 2 * side).map(at).sum::<f64>() / (2 * side + 1) as f64;
    (0..levels.len()).map(mean).collect()
}

/// How loud speech is, in decibels.
fn speech(levels: &[f64], frame_seconds: f64) -> f64 {
    let mut sorted = levels.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let loud = (LOUD_SECONDS / frame_seconds).min(LOUD_SHARE * levels.len() as f64);
    sorted[(loud as usize).min(sorted.len() - 1)]
}

/// The level, in decibels, at which speech and silence are equally probable.
fn bound(levels: &[f64], speech: f64) -> f64 {
    let sound = levels.iter().copied();
    let mut sound: Vec<f64> = sound
        .filter(|level| *level > speech - NOTHING + 1.0)
        .collect();
    sound.sort_by(f64::total_cmp);
    let soft = sound.get((SOFT_SHARE * sound.len() as f64) as usize);
    let background = soft.copied().unwrap_or(speech);
    let below = speech - BELOW_SPEECH;
    match speech - background > CONTRAST {
        true => below.max(background + ABOVE_BACKGROUND * (speech - background)),
        false => below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Power of frames at some levels in decibels, each so many times.
    fn sound(parts: &[(f64, usize)]) -> Vec<f32> {
        let parts = parts.iter();
        let frames = parts.flat_map(|&(level, count)| vec![10f64.powf(level / 10.0) as f32; count]);
        frames.collect()
    }

    /// Which of the frames are rather silence.
    fn silent(parts: &[(f64, usize)]) -> Vec<bool> {
        let power = sound(parts);
        let found = silence(&power, power.len() / 2, 0.02);
        assert!(found.iter().all(|p| (0.0..=1.0).contains(p)));
        found.iter().map(|&p| p > 0.5).collect()
    }

    /// Silence, speech, silence, of so many frames; a frame beside a change may
    /// be either.
    fn assert_parts(found: &[bool], [before, speech, behind]: [usize; 3]) {
        assert_eq!(found.len(), before + speech + behind);
        assert!(found[..before - 1].iter().all(|&silent| silent));
        let inside = &found[before + 1..before + speech - 1];
        assert!(inside.iter().all(|&silent| !silent));
        assert!(found[before + speech + 1..].iter().all(|&silent| silent));
    }

    #[test]
    fn background_is_silence_and_speech_is_not() {
        let found = silent(&[(-48.0, 20), (-25.0, 60), (-46.0, 20)]);
        assert_parts(&found, [10, 30, 10]);
    }

    #[test]
    fn samples_of_0_in_front_do_not_make_the_background_speech() {
        let found = silent(&[(-100.0, 500), (-48.0, 20), (-25.0, 60), (-46.0, 20)]);
        assert_parts(&found, [260, 30, 10]);
    }

    #[test]
    fn where_all_is_alike_nothing_is_silence() {
        assert_eq!(silent(&[(-30.0, 50), (-40.0, 50)]), [false; 50]);
    }

    #[test]
    fn a_sound_without_sound_is_silence() {
        assert_eq!(silent(&[(-100.0, 50)]), [true; 25]);
        assert_eq!(silent(&[(-70.0, 50)]), [true; 25]);
    }

    #[test]
    fn speech_may_be_a_small_part() {
        let found = silent(&[(-80.0, 2_900), (-20.0, 100)]);
        let loud = found.iter().filter(|silent| !**silent).count();
        assert!((48..=52).contains(&loud), "{loud}");
        // A click is none.
        let click = silent(&[(-25.0, 100), (0.0, 2), (-25.0, 100)]);
        assert_eq!(click, [false; 101]);
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        assert!(silence(&[], 3, 0.02).is_empty());
    }
}
