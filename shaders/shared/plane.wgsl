// Planes of frames and bins: rows of a tensor, bins faster than frames, with a
// column for each channel. An invocation works on BINS adjacent bins of one frame
// and one channel, so that it reads each weight once for all of them.
// Whoever imports it has the members `lead` and `channels` of Params.

const BINS: u32 = 4u;

struct Place {
    n: u32, // lead row
    frame: u32,
    bin: u32, // the first one
    channel: u32,
    count: u32, // bins; 0 past the end
}

// The place of invocation i in planes of so many frames and bins.
fn place(i: u32, frames: u32, bins: u32) -> Place {
    let parts = (bins + BINS - 1u) / BINS;
    let channel = i % params.channels;
    let part = i / params.channels;
    let row = part / parts;
    let n = row / frames;
    let bin = part % parts * BINS;
    let count = select(0u, min(BINS, bins - bin), n < params.lead);
    return Place(n, row % frames, bin, channel, count);
}
