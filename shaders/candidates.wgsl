// The `count` largest log-probabilities of every row with their token ids,
// largest first, the smaller id first among equals; tokens that are banned or
// not allowed are passed over, and where too few are left the rest of the list
// is (-1e30, 0). One workgroup for each row: every lane knows the best of its
// own tokens, the best of all lanes is taken, and its lane looks for its next.
//
// `ranges` of a row are (text from, times, times from, times to): ids from
// `times` on are times, and of those only `times from` to `times to` may be
// chosen; other ids only from `text from` on. Where the times left have more
// probability together than the likeliest other token left, only times may be
// chosen.

struct Params {
    rows: u32,  // N: hypotheses
    cols: u32,  // V: tokens
    limit: u32, // M: places in a row's list of banned tokens
    count: u32, // candidates of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> log_probabilities: array<f32>; // log_probabilities: (N, 1, V)
@group(0) @binding(2) var<storage, read> allowed: array<f32>; // allowed: (V), 0 or 1
@group(0) @binding(3) var<storage, read> banned: array<u32>; // banned: (N, M), ids or NO_TOKEN
@group(0) @binding(4) var<storage, read> ranges: array<u32>; // ranges: (N, 1, 4), ids
@group(0) @binding(5) var<storage, read_write> chosen: array<f32>; // chosen: (N, count, 2), log-probability and id

// Whether any row's ranges may hold times
override TIMES: bool;

const WORKGROUP: u32 = 256u;
const NO_TOKEN: u32 = 0xffffffffu;

struct Candidate {
    value: f32,
    id: u32,
}

var<workgroup> best: array<Candidate, WORKGROUP>;
// Largest log-probability of text and of times; then the times' sum.
var<workgroup> largest: array<vec2<f32>, WORKGROUP>;

fn before(a: Candidate, b: Candidate) -> bool {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

fn is_free(row: u32, id: u32) -> bool {
    for (var m = 0u; m < params.limit; m++) {
        if banned[row * params.limit + m] == id {
            return false;
        }
    }
    return allowed[id] != 0.0;
}

fn is_within(id: u32, bounds: vec4<u32>) -> bool {
    if id < bounds.y {
        return id >= bounds.x;
    }
    return id >= bounds.z && id < bounds.w;
}

// Whether the times left have more probability together than the likeliest
// other token left.
fn times_win(row: u32, lane: u32, bounds: vec4<u32>) -> bool {
    var own = vec2(-3e38);
    for (var id = lane; id < params.cols; id += WORKGROUP) {
        let value = log_probabilities[row * params.cols + id];
        let kind = select(0u, 1u, id >= bounds.y);
        if value > own[kind] && is_within(id, bounds) {
            if is_free(row, id) {
                own[kind] = value;
            }
        }
    }
    largest[lane] = own;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            largest[lane] = max(largest[lane], largest[lane + reach]);
        }
    }
    workgroupBarrier();
    let most = largest[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var id = bounds.y + lane; id < params.cols; id += WORKGROUP) {
        if is_within(id, bounds) {
            if is_free(row, id) {
                sum += exp(log_probabilities[row * params.cols + id] - most.y);
            }
        }
    }
    largest[lane] = vec2(sum);
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            largest[lane] += largest[lane + reach];
        }
    }
    workgroupBarrier();
    let none = most.x < -2e38 || most.y < -2e38;
    return !none && most.y + log(largest[0].x) > most.x;
}

// The first of the lane's tokens that comes after `last`.
fn next(row: u32, lane: u32, last: Candidate, bounds: vec4<u32>) -> Candidate {
    var found = Candidate(-3e38, NO_TOKEN);
    for (var id = lane; id < params.cols; id += WORKGROUP) {
        let here = Candidate(log_probabilities[row * params.cols + id], id);
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
    let at = row * 4u;
    var bounds = vec4(ranges[at], ranges[at + 1u], ranges[at + 2u], ranges[at + 3u]);
    if TIMES {
        if times_win(row, lane, bounds) {
            bounds.x = bounds.y;
        }
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
            let none = winner.id == NO_TOKEN;
            let to = (row * params.count + place) * 2u;
            chosen[to] = select(winner.value, -1e30, none);
            chosen[to + 1u] = select(f32(winner.id), 0.0, none);
        }
        if own.id == winner.id && own.id != NO_TOKEN {
            own = next(row, lane, own, bounds);
        }
    }
}
