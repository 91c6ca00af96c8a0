// The `count` largest log-probabilities of every row with their token ids,
// largest first, the smaller id first among equals; tokens that are banned or
// not allowed are passed over, and where too few are left the rest of the list
// is (-1e30, 0, 0). One workgroup for each row: every lane knows the best of its
// own tokens, the best of all lanes is taken, and its lane looks for its next.
//
// `ranges` of a row are (text from, times, times from, times to, behind): ids
// from `times` on and below `behind` are times, and of those only `times from`
// to `times to` may be chosen; ids below them only from `text from` on, ids from
// `behind` on only if that is 0. Where the times left have more probability
// together than the likeliest other token left, only times may be chosen.
//
// If DRAWN, tokens are ordered by log-probability times `scale` plus a Gumbel
// number: that of token v at position p of row n comes from word v % 4 of the
// Philox 4x32-10 block (v / 4, p, n, TOKENS_DOMAIN) under the seed as key. Positions
// are the scalar step, rows count from first_variant.

// #import domains
// #import lanes
// #import philox

struct Params {
    rows: u32,      // N: hypotheses
    cols: u32,      // V: tokens
    limit: u32,     // M: places in a row's list of banned tokens
    count: u32,     // candidates of a row
    scale: f32,     // 1 / temperature
    seed_low: u32,  // lower half of the seed
    seed_high: u32, // upper half of the seed
}

struct Scalars {
    first_variant: u32, // number of row 0 for drawing
    step: u32, // position of this decoding step
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> log_probabilities: array<f32>; // log_probabilities: (N, 1, V)
@group(0) @binding(2) var<storage, read> allowed: array<f32>; // allowed: (V), 0 or 1
@group(0) @binding(3) var<storage, read> banned: array<u32>; // banned: (N, M), ids or NO_TOKEN
@group(0) @binding(4) var<storage, read> ranges: array<u32>; // ranges: (N, 1, 5), ids
@group(0) @binding(5) var<storage, read> scalars: Scalars; // scalars: (2)
@group(0) @binding(6) var<storage, read_write> chosen: array<f32>; // chosen: (N, count, 3), log-probability, id, all left

// Whether any row's ranges may hold times
override TIMES: bool;
// Whether the probability of all tokens left is wanted
override WITH_LEFT: bool;
// Whether tokens are drawn
override DRAWN: bool;

const WORKGROUP: u32 = 256u;
alias Lane = f32;
const NO_TOKEN: u32 = 0xffffffffu;

struct Candidate {
    value: f32,
    id: u32,
}

var<workgroup> best: array<Candidate, WORKGROUP>;

fn before(a: Candidate, b: Candidate) -> bool {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// The list of banned tokens ends with the first NO_TOKEN.
fn is_free(row: u32, id: u32) -> bool {
    for (var m = 0u; m < params.limit; m++) {
        let other = banned[row * params.limit + m];
        if other == id {
            return false;
        }
        if other == NO_TOKEN {
            break;
        }
    }
    return allowed[id] != 0.0;
}

// The ranges of a row.
struct Bounds {
    text_from: u32,
    times: u32,
    times_from: u32,
    times_to: u32,
    behind: u32,
}

fn is_within(id: u32, bounds: Bounds) -> bool {
    if id < bounds.times {
        return id >= bounds.text_from;
    }
    if id < bounds.behind {
        return id >= bounds.times_from && id < bounds.times_to;
    }
    return bounds.text_from == 0u;
}

// The largest log-probability of the tokens left from `first` to before
// `behind`; -3e38 where there are none.
fn most_left(row: u32, lane: u32, bounds: Bounds, first: u32, behind: u32) -> f32 {
    var most = -3e38;
    for (var id = first + lane; id < behind; id += WORKGROUP) {
        let value = log_probabilities[row * params.cols + id];
        if value > most && is_within(id, bounds) {
            if is_free(row, id) {
                most = value;
            }
        }
    }
    return workgroup_max(lane, most);
}

// The logarithm of those tokens' probability, of which `most` is the largest.
fn mass_left(
    row: u32,
    lane: u32,
    bounds: Bounds,
    first: u32,
    behind: u32,
    most: f32,
) -> f32 {
    var sum = 0.0;
    for (var id = first + lane; id < behind; id += WORKGROUP) {
        if is_within(id, bounds) {
            if is_free(row, id) {
                sum += exp(log_probabilities[row * params.cols + id] - most);
            }
        }
    }
    return most + log(workgroup_sum(lane, sum));
}

// Whether the times left have more probability together than the likeliest
// other token left.
fn times_win(row: u32, lane: u32, bounds: Bounds) -> bool {
    let first = min(bounds.times, params.cols);
    let behind = clamp(bounds.behind, first, params.cols);
    let below = most_left(row, lane, bounds, 0u, first);
    let text = max(below, most_left(row, lane, bounds, behind, params.cols));
    let most = most_left(row, lane, bounds, first, behind);
    let times = mass_left(row, lane, bounds, first, behind, most);
    return text > -2e38 && most > -2e38 && times > text;
}

// What tokens are ordered by.
fn order(row: u32, id: u32) -> f32 {
    let value = log_probabilities[row * params.cols + id];
    if !DRAWN {
        return value;
    }
    let counter = vec4(id / 4u, scalars.step, scalars.first_variant + row, TOKENS_DOMAIN);
    let bits = philox4x32(counter, vec2(params.seed_low, params.seed_high))[id % 4u];
    let p = (f32(bits >> 9u) + 0.5) * (1.0 / 8388608.0);
    // -log(1 - p): devices' logarithms are wrong by up to 2^-21 near 1.
    let small = p * (1.0 + p * (0.5 + p * (1.0 / 3.0)));
    let exponential = select(-log(1.0 - p), small, p < 1.0 / 256.0);
    return value * params.scale - log(exponential);
}

// The first of the lane's tokens that comes after `last`.
fn next(row: u32, lane: u32, last: Candidate, bounds: Bounds) -> Candidate {
    var found = Candidate(-3e38, NO_TOKEN);
    for (var id = lane; id < params.cols; id += WORKGROUP) {
        let here = Candidate(order(row, id), id);
        if before(last, here) && before(here, found) {
            if is_within(id, bounds) && is_free(row, id) {
                found = here;
            }
        }
    }
    return found;
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let at = row * 5u;
    var bounds = Bounds(
        ranges[at],
        ranges[at + 1u],
        ranges[at + 2u],
        ranges[at + 3u],
        ranges[at + 4u],
    );
    if TIMES {
        if times_win(row, lane, bounds) {
            bounds.text_from = bounds.times;
        }
    }
    var all_left = 0.0;
    if WITH_LEFT {
        let most = most_left(row, lane, bounds, 0u, params.cols);
        all_left = mass_left(row, lane, bounds, 0u, params.cols, most);
    }
    var own = next(row, lane, Candidate(3e38, 0u), bounds);
    for (var place = 0u; place < params.count; place++) {
        workgroupBarrier();
        best[lane] = own;
        for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
            workgroupBarrier();
            if lane < reach && before(best[lane + reach], best[lane]) {
                best[lane] = best[lane + reach];
            }
        }
        workgroupBarrier();
        let winner = best[0];
        if lane == 0u {
            let to = (row * params.count + place) * 3u;
            if winner.id == NO_TOKEN {
                chosen[to] = -1e30;
                chosen[to + 1u] = 0.0;
                chosen[to + 2u] = 0.0;
            } else {
                chosen[to] = log_probabilities[row * params.cols + winner.id];
                chosen[to + 1u] = f32(winner.id);
                chosen[to + 2u] = all_left;
            }
        }
        if own.id == winner.id && own.id != NO_TOKEN {
            own = next(row, lane, own, bounds);
        }
    }
}
