// Planes of frames and bins: rows of a tensor, bins faster than frames, with a
// column for each channel. An invocation works on BINS adjacent bins of one frame
// and one channel, so that it reads each weight once for all of them.
// Whoever imports it has the members `lead` and `channels` of Params, and for `summed`
// those of windows, `weight` (k, k, C), `bias` (C), and x_at(row, bin, channel), which is
// 0 for bins outside of the plane.

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

// For each of BINS adjacent windows: bias + sum over i, j of x[first + (i, j)] * weight[(i, j)].
fn summed(own: Place) -> vec4<f32> {
    let stride = params.stride;
    var sums = vec4(bias[own.channel]);
    for (var i = 0u; i < params.kernel; i++) {
        let frame = own.frame * stride + i - params.padding;
        if frame >= params.frames {
            continue;
        }
        let row = (own.n * params.frames + frame) * params.bins;
        for (var j = 0u; j < params.kernel; j++) {
            let tap = weight[(i * params.kernel + j) * params.channels + own.channel];
            let bin = own.bin * stride + j - params.padding;
            sums += tap * vec4(
                x_at(row, bin, own.channel),
                x_at(row, bin + stride, own.channel),
                x_at(row, bin + 2u * stride, own.channel),
                x_at(row, bin + 3u * stride, own.channel),
            );
        }
    }
    return sums;
}
