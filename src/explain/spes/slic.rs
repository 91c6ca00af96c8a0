//! Superpixels of a spectrogram: the segments that SPES masks as one.
//!
//! SLIC (Achanta et al., "SLIC superpixels compared to state-of-the-art
//! superpixel methods", PAMI 2012) clusters pixels by place and value with
//! k-means in which a centre sees only its surroundings. The segmentation is
//! that of scikit-image 0.26, `slic(image, n_segments, compactness, sigma,
//! channel_axis=None, start_label=1)`, label for label: published maps were
//! made with it, and a study of them should not begin with other segments.
//! Hence f32 arithmetic in scikit-image's order of operations, and its habits
//! where the paper leaves a choice:
//!
//! - Centres start on a regular grid whose step is rounded, so there may be
//!   fewer or more of them than asked for.
//! - A centre's window comes from a second grid, for the number of centres
//!   that there really are.
//! - A centre that lost all of its pixels is out for good.
//! - Small leftovers join the segment seen last around them; large segments
//!   are cut at three times the mean size.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use crate::features::Features;
use crate::{Error, Result};

const MAX_ITERATIONS: usize = 10;
/// Segments smaller than this share of the mean size join a neighbour.
const MIN_SIZE_FACTOR: f64 = 0.5;
/// Segments are cut at this multiple of the mean size.
const MAX_SIZE_FACTOR: f64 = 3.0;
/// Standard deviations at which the smoothing kernel ends.
const TRUNCATE: f64 = 4.0;
/// Beyond it, squared distances could leave f32.
const COMPACTNESS: RangeInclusive<f64> = 1e-9..=1e9;
/// Wider kernels than any spectrogram are refused.
const MAX_SIGMA: f64 = 1e4;

/// What kind of segments to look for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlicOptions {
    /// About how many segments; see [`scaled_segments`].
    pub segments: usize,
    /// How much place counts against value; values are scaled to 0..1.
    pub compactness: f64,
    /// Standard deviation of the smoothing before, in pixels; 0 for none.
    pub sigma: f64,
}

/// The published settings, for about `segments` segments.
impl SlicOptions {
    pub fn published(segments: usize) -> Self {
        Self {
            segments,
            compactness: 0.1,
            sigma: 0.0,
        }
    }
}

/// A partition of (T, F) features into connected segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// (T, F), row-major: each pixel's segment, from 1 to `count`.
    pub labels: Vec<u32>,
    pub count: usize,
    /// T
    pub frames: usize,
    /// F
    pub bins: usize,
}

/// How many segments to ask for in a sound of `frames` frames when a
/// publication names `nominal`, which stands for 5 s: nominal · min(T, 750) /
/// 500, rounded (halves to even, as Python does), at least 1.
pub fn scaled_segments(nominal: usize, frames: usize) -> usize {
    let scaled = nominal as f64 * frames.min(750) as f64 / 500.0;
    (scaled.round_ties_even() as usize).max(1)
}

/// Segments `features` by SLIC after scaling them to 0..1.
///
/// # Errors
/// If there are no features, one of them is not a finite number, or an option
/// is out of its range: `segments` at least 1, `compactness` from
/// 1e-9 to 1e9, `sigma` from 0 to 10,000.
pub fn slic(features: &Features, options: SlicOptions) -> Result<Segments> {
    check(features, options)?;
    let (frames, bins) = (features.frames, features.bins);
    let mut image = scale_to_unit(&features.data)?;
    if options.sigma > 0.0 {
        image = gaussian_smooth(&image, frames, bins, options.sigma);
    }
    let ratio = (1.0 / options.compactness) as f32;
    image.iter_mut().for_each(|x| *x *= ratio);

    let image = Image {
        data: image,
        height: frames,
        width: bins,
    };
    let grid = Grid::new(frames, bins, options.segments);
    let centres = grid.centres(frames, bins);
    let mean_size = (frames * bins) as f64 / centres.len() as f64;
    let step = grid.y.step.max(grid.x.step) as f32;

    let clusters = cluster(&image, centres, step);
    let labels = connect(
        &clusters,
        frames,
        bins,
        (MIN_SIZE_FACTOR * mean_size) as usize,
        (MAX_SIZE_FACTOR * mean_size) as usize,
    );
    let count = labels.iter().max().map_or(0, |&l| l as usize);
    Ok(Segments {
        labels,
        count,
        frames,
        bins,
    })
}

fn check(features: &Features, options: SlicOptions) -> Result<()> {
    let refuse = |problem: String| Err(Error::Input(format!("segmentation: {problem}")));
    if features.data.is_empty() {
        return refuse("there are no features to segment".into());
    }
    if let Some(i) = features.data.iter().position(|x| !x.is_finite()) {
        return refuse(format!(
            "bin {} of frame {} is {}; every feature must be a finite number",
            i % features.bins,
            i / features.bins,
            features.data[i]
        ));
    }
    if options.segments == 0 {
        return refuse("0 segments are asked for; 1 or more are needed".into());
    }
    if !COMPACTNESS.contains(&options.compactness) {
        return refuse(format!(
            "the compactness is {}; {:e} to {:e} is possible",
            options.compactness,
            COMPACTNESS.start(),
            COMPACTNESS.end()
        ));
    }
    if !(0.0..=MAX_SIGMA).contains(&options.sigma) {
        return refuse(format!(
            "sigma is {}; 0 to {MAX_SIGMA} is possible",
            options.sigma
        ));
    }
    Ok(())
}

/// Scales to 0..1; a constant becomes 0.
fn scale_to_unit(data: &[f32]) -> Result<Vec<f32>> {
    let low = data.iter().copied().fold(f32::INFINITY, f32::min);
    let high = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = if high == low { 1.0 } else { high - low };
    if range.is_infinite() {
        return Err(Error::Input(format!(
            "segmentation: features from {low:e} to {high:e} are too far apart for f32"
        )));
    }
    Ok(data.iter().map(|x| (x - low) / range).collect())
}

/// Smooths `image` (height, width) with a Gaussian, as
/// `scipy.ndimage.gaussian_filter(image, sigma, mode="reflect")` does: one
/// axis after the other, each sum in f64 and each axis' result in f32, the
/// kernel cut at four standard deviations. scikit-image filters its depth
/// axis of one pixel as well, which changes nothing.
pub fn gaussian_smooth(image: &[f32], height: usize, width: usize, sigma: f64) -> Vec<f32> {
    let kernel = gaussian_kernel(sigma);
    let mut smooth = image.to_vec();
    for x in 0..width {
        smooth_line(&mut smooth, x, width, height, &kernel);
    }
    for y in 0..height {
        smooth_line(&mut smooth, y * width, 1, width, &kernel);
    }
    smooth
}

/// Half of a normalised Gaussian: the weights at distance 0, 1, 2, ...
fn gaussian_kernel(sigma: f64) -> Vec<f64> {
    // scikit-image keeps sigma in the image's precision.
    let sigma = f64::from(sigma as f32);
    let radius = (TRUNCATE * sigma + 0.5) as usize;
    let value = |d: usize| (-0.5 / (sigma * sigma) * (d * d) as f64).exp();
    let half: Vec<f64> = (0..=radius).map(value).collect();
    let total = half[0] + 2.0 * half[1..].iter().sum::<f64>();
    half.iter().map(|v| v / total).collect()
}

/// Smooths the `length` values at `start`, `start + stride`, ... The line goes
/// on beyond its ends as its own mirror image, end values twice.
fn smooth_line(data: &mut [f32], start: usize, stride: usize, length: usize, kernel: &[f64]) {
    let line: Vec<f64> = (0..length)
        .map(|i| f64::from(data[start + i * stride]))
        .collect();
    let period = 2 * length as isize;
    let at = |i: isize| {
        let i = i.rem_euclid(period);
        line[i.min(period - 1 - i) as usize]
    };
    for i in 0..length {
        let mut sum = line[i] * kernel[0];
        // From the far end inwards, as SciPy adds.
        for (d, weight) in kernel.iter().enumerate().skip(1).rev() {
            sum += (at(i as isize - d as isize) + at((i + d) as isize)) * weight;
        }
        data[start + i * stride] = sum as f32;
    }
}

/// A grey image: y is time, x frequency.
struct Image {
    /// (height, width), row-major
    data: Vec<f32>,
    height: usize,
    width: usize,
}

/// Evenly spaced places along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spacing {
    start: usize,
    step: usize,
}

impl Spacing {
    /// Half a step from the border, then a step each; the step is rounded
    /// (halves to even) only after the start was taken from it.
    fn new(step: f64) -> Self {
        Self {
            start: (step / 2.0) as usize,
            step: step.round_ties_even() as usize,
        }
    }
}

/// A regular grid of about so many points, as square as the image allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    y: Spacing,
    x: Spacing,
}

impl Grid {
    fn new(height: usize, width: usize, points: usize) -> Self {
        let area = (height * width) as f64;
        if area <= points as f64 {
            let every = Spacing { start: 0, step: 1 };
            return Self { y: every, x: every };
        }
        let side = (area / points as f64).sqrt();
        let (short, long) = (height.min(width) as f64, height.max(width) as f64);
        if short >= side {
            let square = Spacing::new(side);
            return Self {
                y: square,
                x: square,
            };
        }
        // Too narrow for squares: one row of points along the longer side.
        let across = Spacing::new(short);
        let along = Spacing::new(long / points as f64);
        if height <= width {
            Self {
                y: across,
                x: along,
            }
        } else {
            Self {
                y: along,
                x: across,
            }
        }
    }

    fn centres(&self, height: usize, width: usize) -> Vec<Centre> {
        let (y, x) = (self.y, self.x);
        (y.start..height)
            .step_by(y.step)
            .flat_map(|cy| {
                (x.start..width).step_by(x.step).map(move |cx| Centre {
                    y: cy as f32,
                    x: cx as f32,
                    value: 0.0,
                    pixels: 1,
                })
            })
            .collect()
    }
}

/// One cluster. The first assignment compares with the value 0, not with the
/// image at the centre.
#[derive(Clone, Copy, Debug)]
struct Centre {
    y: f32,
    x: f32,
    value: f32,
    pixels: usize,
}

/// k-means over place and value: each pixel's cluster, counted from 1.
fn cluster(image: &Image, mut centres: Vec<Centre>, step: f32) -> Vec<u32> {
    let (height, width) = (image.height, image.width);
    let window = Grid::new(height, width, centres.len());
    let place_weight = (1.0 / f64::from(step * step)) as f32;
    let mut nearest = vec![0u32; image.data.len()];
    let mut distance = vec![f32::INFINITY; image.data.len()];

    for _ in 0..MAX_ITERATIONS {
        distance.fill(f32::INFINITY);
        let mut changed = false;
        for (label, centre) in (1..).zip(&centres) {
            if centre.pixels == 0 {
                continue;
            }
            let rows = span(centre.y, window.y.step, height);
            let columns = span(centre.x, window.x.step, width);
            for y in rows {
                let dy = centre.y - y as f32;
                let dy = dy * dy;
                for x in columns.clone() {
                    let i = y * width + x;
                    let dx = centre.x - x as f32;
                    let dv = image.data[i] - centre.value;
                    let d = (dy + dx * dx) * place_weight + dv * dv;
                    if distance[i] > d {
                        distance[i] = d;
                        nearest[i] = label;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
        move_centres(image, &nearest, &mut centres);
    }
    nearest
}

/// The pixels within two steps of a centre, on one axis.
fn span(centre: f32, step: usize, length: usize) -> Range<usize> {
    let reach = (2 * step) as f32;
    let low = (centre - reach).max(0.0) as usize;
    let high = (centre + reach + 1.0).min(length as f32) as usize;
    low..high
}

/// Each centre goes to the mean of its pixels, summed in row-major order.
fn move_centres(image: &Image, nearest: &[u32], centres: &mut [Centre]) {
    centres.fill(Centre {
        y: 0.0,
        x: 0.0,
        value: 0.0,
        pixels: 0,
    });
    for (i, (&label, &value)) in nearest.iter().zip(&image.data).enumerate() {
        // Windows of two steps reach every pixel at the start (tested over
        // all small sizes), and a pixel keeps its cluster until another one
        // comes closer: there is no label 0.
        let centre = &mut centres[label as usize - 1];
        centre.y += (i / image.width) as f32;
        centre.x += (i % image.width) as f32;
        centre.value += value;
        centre.pixels += 1;
    }
    for centre in centres.iter_mut().filter(|c| c.pixels > 0) {
        let count = centre.pixels as f32;
        centre.y /= count;
        centre.x /= count;
        centre.value /= count;
    }
}

/// Makes segments of the clusters' connected parts, in row-major order of
/// their first pixels. A part under `min_size` pixels joins the segment seen
/// last next to it; one of `max_size` pixels is complete as it is.
fn connect(
    clusters: &[u32],
    height: usize,
    width: usize,
    min_size: usize,
    max_size: usize,
) -> Vec<u32> {
    let mut labels = vec![0u32; clusters.len()];
    let mut next = 1;
    let mut part = Vec::with_capacity(max_size);
    let mut queue = VecDeque::new();
    for first in 0..clusters.len() {
        if labels[first] != 0 {
            continue;
        }
        let mut adjacent = next;
        labels[first] = next;
        part.clear();
        part.push(first);
        queue.clear();
        queue.push_back(first);
        while part.len() < max_size
            && let Some(i) = queue.pop_front()
        {
            for neighbour in neighbours(i, height, width).into_iter().flatten() {
                if labels[neighbour] == 0 && clusters[neighbour] == clusters[first] {
                    labels[neighbour] = next;
                    part.push(neighbour);
                    queue.push_back(neighbour);
                    if part.len() >= max_size {
                        break;
                    }
                } else if labels[neighbour] != 0 && labels[neighbour] != next {
                    adjacent = labels[neighbour];
                }
            }
        }
        if part.len() < min_size {
            part.iter().for_each(|&i| labels[i] = adjacent);
        } else {
            next += 1;
        }
    }
    labels
}

/// The pixels right, left, below and above, in this order.
fn neighbours(i: usize, height: usize, width: usize) -> [Option<usize>; 4] {
    let (y, x) = (i / width, i % width);
    [
        (x + 1 < width).then(|| i + 1),
        (x > 0).then(|| i - 1),
        (y + 1 < height).then(|| i + width),
        (y > 0).then(|| i - width),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    fn noise(frames: usize, bins: usize, seed: u32) -> Features {
        let data = (0..frames * bins)
            .map(|i| philox4x32([i as u32, 0, 0, 0], [seed, 0])[0] as f32 / 2f32.powi(31) - 1.0)
            .collect();
        Features::new(data, frames, bins).unwrap()
    }

    /// Every label from 1 to the count occurs, and nothing else.
    fn assert_complete(segments: &Segments, what: &str) {
        let mut seen = vec![false; segments.count + 1];
        segments
            .labels
            .iter()
            .for_each(|&l| seen[l as usize] = true);
        assert!(!seen[0], "{what}: a pixel has no segment");
        assert!(seen[1..].iter().all(|&s| s), "{what}: a segment is empty");
    }

    #[test]
    fn every_pixel_has_a_segment_at_awkward_sizes() {
        for frames in [1, 2, 3, 5, 7, 8, 13, 64] {
            for bins in [1, 2, 3, 5, 7, 8, 13, 80] {
                let features = noise(frames, bins, 3);
                for segments in (1..40).chain([64, 100, 1023, 100_000]) {
                    for compactness in [1e-9, 0.1, 1e9] {
                        let options = SlicOptions {
                            compactness,
                            ..SlicOptions::published(segments)
                        };
                        let result = slic(&features, options).unwrap();
                        assert_complete(&result, &format!("{frames} x {bins}, {options:?}"));
                    }
                }
            }
        }
    }

    #[test]
    fn windows_reach_every_pixel() {
        let reached = |centres: Spacing, window: Spacing, length: usize| {
            let mut to = 0;
            for c in (centres.start..length).step_by(centres.step) {
                let range = span(c as f32, window.step, length);
                if range.start > to {
                    return false;
                }
                to = range.end;
            }
            to == length
        };
        for height in (1..=100).chain([326, 750, 2999]) {
            for width in (1..=20).chain([40, 79, 80, 81, 128]) {
                for points in (1..=200).chain([511, 1630, 4500]) {
                    let grid = Grid::new(height, width, points);
                    let window = Grid::new(height, width, grid.centres(height, width).len());
                    assert!(
                        reached(grid.y, window.y, height) && reached(grid.x, window.x, width),
                        "{height} x {width}, {points} points: {grid:?}, {window:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_segment_is_the_whole_image() {
        let result = slic(&noise(30, 20, 1), SlicOptions::published(1)).unwrap();
        assert_eq!((result.count, result.frames, result.bins), (1, 30, 20));
    }

    /// Without anything to see, segments are the grid's cells: with 12 x 20
    /// pixels and 15 centres, squares of 4 x 4.
    #[test]
    fn a_constant_image_is_cut_into_the_grid() {
        let constant = Features::new(vec![7.5; 240], 12, 20).unwrap();
        let result = slic(&constant, SlicOptions::published(15)).unwrap();
        assert_eq!(result.count, 15);
        for label in 1..=15 {
            let size = result.labels.iter().filter(|&&l| l == label).count();
            // A pixel halfway between two centres goes to the first of them.
            assert!((9..=25).contains(&size), "segment {label}: {size} pixels");
        }
    }

    #[test]
    fn scale_and_offset_do_not_matter() {
        let features = noise(40, 20, 5);
        let moved = Features {
            data: features.data.iter().map(|x| x * 8.0).collect(),
            ..features.clone()
        };
        let options = SlicOptions::published(60);
        assert_eq!(
            slic(&features, options).unwrap(),
            slic(&moved, options).unwrap()
        );
    }

    #[test]
    fn segment_numbers_follow_the_length() {
        assert_eq!(scaled_segments(2000, 326), 1304);
        assert_eq!(scaled_segments(2500, 326), 1630);
        assert_eq!(scaled_segments(40, 326), 26);
        assert_eq!(scaled_segments(3000, 750), 4500);
        assert_eq!(scaled_segments(3000, 5000), 4500);
        assert_eq!(scaled_segments(3, 1), 1);
        // 2.5 and 3.5: halves go to the even side.
        assert_eq!(scaled_segments(250, 5), 2);
        assert_eq!(scaled_segments(250, 7), 4);
    }

    #[test]
    fn smoothing_keeps_constants_and_the_mean() {
        // 13 pixels of kernel radius over lines of 1 and 3: the mirror image
        // is itself mirrored.
        for (height, width) in [(1, 1), (1, 7), (7, 1), (3, 5), (30, 17)] {
            let constant = vec![0.75; height * width];
            for x in gaussian_smooth(&constant, height, width, 3.2) {
                assert!((x - 0.75).abs() <= 2.0 * f32::EPSILON);
            }
            let image = noise(height, width, 9).data;
            let mean = |data: &[f32]| data.iter().sum::<f32>() / data.len() as f32;
            let smooth = gaussian_smooth(&image, height, width, 3.2);
            assert!((mean(&image) - mean(&smooth)).abs() <= 1e-5);
        }
    }

    #[test]
    fn what_cannot_be_segmented_is_named() {
        let good = noise(4, 5, 2);
        let published = SlicOptions::published(3);
        let mut bad = good.clone();
        bad.data[13] = f32::NAN;
        let empty = Features::new(vec![], 0, 80).unwrap();
        let wide = Features::new(vec![-3e38, 3e38], 1, 2).unwrap();
        for (features, options, words) in [
            (&wide, published, "too far apart"),
            (&bad, published, "bin 3 of frame 2 is NaN"),
            (&empty, published, "no features"),
            (&good, SlicOptions::published(0), "0 segments"),
            (
                &good,
                SlicOptions {
                    compactness: 0.0,
                    ..published
                },
                "compactness is 0",
            ),
            (
                &good,
                SlicOptions {
                    compactness: f64::NAN,
                    ..published
                },
                "compactness is NaN",
            ),
            (
                &good,
                SlicOptions {
                    sigma: -1.0,
                    ..published
                },
                "sigma is -1",
            ),
            (
                &good,
                SlicOptions {
                    sigma: f64::NAN,
                    ..published
                },
                "sigma is NaN",
            ),
        ] {
            let message = slic(features, options).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
