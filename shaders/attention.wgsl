// Multi-head attention and its reverse.
//
// output = softmax(scale * scores(query, key)) * value, head by head. With
// relative positions the score of query i and key j is
//     (q_i + u) * k_j + (q_i + v) * p_(T-1-i+j)
// if there is a p for each of the 2T-1 distances, and SHIFTED if there are T:
//     (q_i + u) * k_j + shifted(i, j)
//     shifted(i, j) = (q_i + v) * p_(T-1-i+j)      where j <= i
//                   = 0                            where j = i + 1
//                   = (q_(i+1) + v) * p_(j-i-2)    where j > i + 1
// Which p is used depends on the distance j - i alone, so a tile of scores
// needs one position vector for each of its diagonals.
//
// A workgroup owns a tile of queries (or of keys, for their reverse) of one
// head and walks over the tiles of the other side; no scores are ever stored.
// A thread owns four rows (queries) and four columns (keys) of a tile, 16
// apart. Every product goes through workgroup memory 16 terms at a time, and
// what a thread needs of a staged term is one vec4, a "quad": numbers of
// rows or columns 16 apart.

// #import tiles

struct Params {
    lead: u32,           // N: lead rows of what is written; K * B in reverse
    lead_query: u32,     // B: lead rows of query, output and statistics
    lead_key: u32,       // C: lead rows of key and value
    queries: u32,        // Q: queries in a lead row
    keys: u32,           // T: keys in a lead row
    heads: u32,          // H: heads
    depth: u32,          // E: columns of a head
    first_column: u32,   // of each head, the first one that is summed over rows
    scale: f32,          // factor of the scores, no unit
    before: u32,         // keys before its own position that a query sees, if BOUNDED
    behind: u32,         // keys behind its own position that a query sees, if BOUNDED
    query_columns: u32,  // columns of the tensor that query is part of
    query_offset: u32,   // first column of query
    key_columns: u32,    // columns of the tensor that key is part of
    key_offset: u32,     // first column of key
    value_columns: u32,  // columns of the tensor that value is part of
    value_offset: u32,   // first column of value
    d_rows: u32,         // rows of the tensor that a cotangent is part of, Q or T or fewer
    d_columns: u32,      // columns of the tensor that a cotangent is part of
    dquery_offset: u32,  // first column of query's cotangent
    dkey_offset: u32,    // first column of key's cotangent
    dvalue_offset: u32,  // first column of value's cotangent
}

// A query sees keys around its own position only.
override BOUNDED: bool = false;
override RELATIVE: bool = false;
// Positions are T, and those of keys after their query come by a shift of rows.
override SHIFTED: bool = false;
// Sums over rows of more than 64 columns.
override WIDE: bool = false;
// Results that are wanted.
override WRITE_OUTPUT: bool = true;
override WRITE_STATISTICS: bool = false;
override WRITE_DKEY: bool = true;
override WRITE_DVALUE: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>; // query: (B, Q, H * E columns)
@group(0) @binding(2) var<storage, read> key: array<f32>; // key: (C, T, H * E columns)
@group(0) @binding(3) var<storage, read> value: array<f32>; // value: (C, T, H * E columns)
@group(0) @binding(4) var<storage, read> positions: array<f32>; // positions: (T or 2T-1, H * E): p
@group(0) @binding(5) var<storage, read> biases: array<f32>; // biases: (2, H * E): u, v
@group(0) @binding(6) var<storage, read_write> output: array<f32>; // output: (N, Q, H * E)
@group(0) @binding(7) var<storage, read_write> statistics: array<f32>; // statistics: (N, H, Q, 2): maximum, logarithm of the sum
@group(0) @binding(8) var<storage, read_write> probabilities: array<f32>; // probabilities: (N, H, Q, T)
@group(0) @binding(9) var<storage, read> terms: array<f32>; // terms: (N, H, Q, 2): logarithm of the sum, doutput * output
@group(0) @binding(10) var<storage, read> doutput: array<f32>; // doutput: (N, Q, H * E)
@group(0) @binding(11) var<storage, read_write> dquery: array<f32>; // dquery: (N, Q, H * E columns)
@group(0) @binding(12) var<storage, read_write> dkey_value: array<f32>; // dkey_value: (N, T, H * E columns, twice)

// Threads along each side of a workgroup; terms that are staged at once.
const LANES: u32 = 16u;
// Queries and keys in a tile, four for each thread along its side.
const TILE: u32 = 64u;
// Queries in a tile of `reverse_query` with shifted positions: a query's
// cotangent needs the scores of the query before it, which take a row.
const SHIFTED_TILE: u32 = 63u;
// Most columns that a launch sums over rows; deeper heads take several, each with
// all of the scores.
const MOST_COLUMNS: u32 = 128u;
// Columns from which on WIDE is needed.
const NARROW: u32 = 64u;
// From one staged term to the next: one quad more than there are, so that
// threads that store to neighbouring terms use different memory banks.
const STRIDE: u32 = 17u;
// The same for a tile's diagonals, 32 quads of four neighbouring ones.
const DIAGONAL_STRIDE: u32 = 33u;
// Score of a key that is not seen.
const UNSEEN: f32 = -1e30;

// Rows' quads: (terms, quads).
var<workgroup> staged_rows: array<vec4<f32>, 272>;
// Columns' quads: (terms, quads); diagonals: (terms, quads); or rows of value
// and the like: (2 halves, rows, quads of columns).
var<workgroup> staged_columns: array<vec4<f32>, 528>;

// What this invocation works on: its place in the workgroup, and where its
// head of its lead row begins in each tensor.
var<private> lane: vec2<u32>;
var<private> head_column: u32;
var<private> query_start: u32;
var<private> key_start: u32;
var<private> value_start: u32;
var<private> doutput_start: u32;

fn width() -> u32 {
    return params.heads * params.depth;
}

fn begin(n: u32, head: u32, local: vec3<u32>) {
    lane = local.xy;
    head_column = head * params.depth;
    let query_row = n % params.lead_query * params.queries;
    let key_row = n % params.lead_key * params.keys;
    query_start = query_row * params.query_columns + params.query_offset + head_column;
    key_start = key_row * params.key_columns + params.key_offset + head_column;
    value_start = key_row * params.value_columns + params.value_offset + head_column;
    doutput_start = n * params.queries * width() + head_column;
}

// --- operands; zero beyond their ends ---------------------------------------
//
// Without branches, which also keep the loads of a quad apart: what is out of
// bounds is read at 0 and dropped.

// Rows of `biases`.
const U: u32 = 0u;
const V: u32 = 1u;

fn query_at(i: u32, column: u32, bias: u32) -> f32 {
    let inside = (i < params.queries) & (column < params.depth);
    let at = query_start + i * params.query_columns + column;
    var q = query[select(0u, at, inside)];
    if RELATIVE {
        q += biases[select(0u, bias * width() + head_column + column, inside)];
    }
    return select(0.0, q, inside);
}

fn key_at(j: u32, column: u32) -> f32 {
    let inside = (j < params.keys) & (column < params.depth);
    let at = key_start + j * params.key_columns + column;
    return select(0.0, key[select(0u, at, inside)], inside);
}

fn value_at(j: u32, column: u32) -> f32 {
    let inside = (j < params.keys) & (column < params.depth);
    let at = value_start + j * params.value_columns + column;
    return select(0.0, value[select(0u, at, inside)], inside);
}

fn doutput_at(i: u32, column: u32) -> f32 {
    let inside = (i < params.queries) & (column < params.depth);
    let at = doutput_start + i * width() + column;
    return select(0.0, doutput[select(0u, at, inside)], inside);
}

// The position vector of keys that are `distance` after their query.
fn position_at(distance: i32, column: u32) -> f32 {
    let past = i32(params.keys) - 1 + distance;
    let t = select(past, distance - 2, SHIFTED & (distance > 0));
    let count = select(2 * i32(params.keys) - 1, i32(params.keys), SHIFTED);
    let inside = (t >= 0) & (t < count) & (column < params.depth);
    let at = u32(t) * width() + head_column + column;
    return select(0.0, positions[select(0u, at, inside)], inside);
}

// --- staging ----------------------------------------------------------------

// Four rows at one column: quads for products along the depth.

fn query_rows(i: u32, column: u32, bias: u32) -> vec4<f32> {
    return vec4<f32>(
        query_at(i, column, bias),
        query_at(i + LANES, column, bias),
        query_at(i + 2u * LANES, column, bias),
        query_at(i + 3u * LANES, column, bias),
    );
}

fn key_rows(j: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        key_at(j, column),
        key_at(j + LANES, column),
        key_at(j + 2u * LANES, column),
        key_at(j + 3u * LANES, column),
    );
}

fn value_rows(j: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        value_at(j, column),
        value_at(j + LANES, column),
        value_at(j + 2u * LANES, column),
        value_at(j + 3u * LANES, column),
    );
}

fn doutput_rows(i: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        doutput_at(i, column),
        doutput_at(i + LANES, column),
        doutput_at(i + 2u * LANES, column),
        doutput_at(i + 3u * LANES, column),
    );
}

// Four neighbouring diagonals at one column. Where positions are shifted, keys
// that come after their query meet them apart from the others, since they need
// the next query.
fn diagonals(distance: i32, column: u32, after: bool) -> vec4<f32> {
    let all = vec4<f32>(
        position_at(distance, column),
        position_at(distance + 1, column),
        position_at(distance + 2, column),
        position_at(distance + 3, column),
    );
    if !SHIFTED {
        return all;
    }
    let is_after = vec4<i32>(distance) + vec4<i32>(0, 1, 2, 3) > vec4<i32>(0);
    return select(vec4<f32>(), all, is_after == vec4<bool>(after));
}

// Four columns of one row: quads for weighted sums of rows.

// A thread's first column of its head, of those that are summed over rows.
fn own_column() -> u32 {
    return params.first_column + lane.x;
}

fn query_columns(i: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        query_at(i, column, U),
        query_at(i, column + LANES, U),
        query_at(i, column + 2u * LANES, U),
        query_at(i, column + 3u * LANES, U),
    );
}

fn key_columns(j: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        key_at(j, column),
        key_at(j, column + LANES),
        key_at(j, column + 2u * LANES),
        key_at(j, column + 3u * LANES),
    );
}

fn value_columns(j: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        value_at(j, column),
        value_at(j, column + LANES),
        value_at(j, column + 2u * LANES),
        value_at(j, column + 3u * LANES),
    );
}

fn doutput_columns(i: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        doutput_at(i, column),
        doutput_at(i, column + LANES),
        doutput_at(i, column + 2u * LANES),
        doutput_at(i, column + 3u * LANES),
    );
}

fn position_columns(distance: i32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        position_at(distance, column),
        position_at(distance, column + LANES),
        position_at(distance, column + 2u * LANES),
        position_at(distance, column + 3u * LANES),
    );
}

// --- products of a tile -----------------------------------------------------

// Sum of the staged terms: (rows, columns).
fn staged_product() -> mat4x4<f32> {
    var sum = mat4x4<f32>();
    for (var d = 0u; d < LANES; d++) {
        let at = d * STRIDE;
        sum += outer(staged_rows[at + lane.y], staged_columns[at + lane.x]);
    }
    return sum;
}

// Adds the products of four queries and the position vectors on this
// thread's diagonals, of which `lowest` is the first.
fn add_diagonals(sum: mat4x4<f32>, lowest: u32) -> mat4x4<f32> {
    let part = lowest % 4u;
    var all = sum;
    for (var d = 0u; d < LANES; d++) {
        let q = staged_rows[d * STRIDE + lane.y];
        let start = d * DIAGONAL_STRIDE + lowest / 4u;
        let p0 = staged_columns[start][part];
        let p1 = staged_columns[start + 4u][part];
        let p2 = staged_columns[start + 8u][part];
        let p3 = staged_columns[start + 12u][part];
        let p4 = staged_columns[start + 16u][part];
        let p5 = staged_columns[start + 20u][part];
        let p6 = staged_columns[start + 24u][part];
        all += mat4x4<f32>(
            q.x * vec4<f32>(p3, p4, p5, p6),
            q.y * vec4<f32>(p2, p3, p4, p5),
            q.z * vec4<f32>(p1, p2, p3, p4),
            q.w * vec4<f32>(p0, p1, p2, p3),
        );
    }
    return all;
}

// Kinds of products, in the order in which they are computed.
const CONTENT: u32 = 0u; // (q_i + u) * k_j
const BEFORE: u32 = 1u; // (q_i + v) * p, where shifted for keys at or before their query
const AFTER: u32 = 2u; // (q_(i+1) + v) * p, where shifted for keys after it
const COTANGENT: u32 = 3u; // doutput_i * v_j

struct Products {
    // Scaled: (queries, keys).
    scores: mat4x4<f32>,
    // Cotangents of the probabilities: (queries, keys).
    dprobabilities: mat4x4<f32>,
}

// A tile's products of all kinds up to `last`. query0 may be 2^32 - 1, the
// row before the first.
fn products(query0: u32, key0: u32, last: u32) -> Products {
    let distance = i32(key0) - i32(query0);
    // Distance on the tile's first diagonal, that of row 63 and column 0; row
    // 0 and column 0 are on number 63. A thread's elements are on seven, 16
    // apart.
    let first = distance - i32(TILE - 1u);
    let lowest = lane.x + LANES - 1u - lane.y;
    var all = Products();
    for (var kind = CONTENT; kind <= last; kind++) {
        let positions = kind == BEFORE || kind == AFTER;
        if positions && !RELATIVE {
            continue;
        }
        if kind == BEFORE && SHIFTED && distance >= i32(TILE) {
            continue;
        }
        if kind == AFTER && (!SHIFTED || distance + i32(TILE) <= 2) {
            continue;
        }
        let shift = select(0u, 1u, kind == AFTER);
        let bias = select(V, U, kind == CONTENT);
        var sum = mat4x4<f32>();
        for (var c = 0u; c < params.depth; c += LANES) {
            let column = c + lane.x;
            let at = lane.x * STRIDE + lane.y;
            if kind == COTANGENT {
                staged_rows[at] = doutput_rows(query0 + lane.y, column);
                staged_columns[at] = value_rows(key0 + lane.y, column);
            } else {
                staged_rows[at] = query_rows(query0 + shift + lane.y, column, bias);
                if positions {
                    let own = lane.x * DIAGONAL_STRIDE + lane.y;
                    let start = first + i32(4u * lane.y);
                    let half = i32(TILE);
                    staged_columns[own] = diagonals(start, column, kind == AFTER);
                    staged_columns[own + LANES] =
                        diagonals(start + half, column, kind == AFTER);
                } else {
                    staged_columns[at] = key_rows(key0 + lane.y, column);
                }
            }
            workgroupBarrier();
            if positions {
                sum = add_diagonals(sum, lowest);
            } else {
                sum += staged_product();
            }
            workgroupBarrier();
        }
        if kind == COTANGENT {
            all.dprobabilities = sum;
        } else {
            all.scores += params.scale * sum;
        }
    }
    return all;
}

fn sees(i: u32, j: u32) -> bool {
    let near = (j <= i + params.behind) & (i <= j + params.before);
    return (i < params.queries) & (j < params.keys) & (!BOUNDED | near);
}

fn sees_quad(i: u32, j: u32) -> vec4<bool> {
    return vec4<bool>(
        sees(i, j),
        sees(i, j + LANES),
        sees(i, j + 2u * LANES),
        sees(i, j + 3u * LANES),
    );
}

// `tile` with `hidden` where a query does not see a key.
fn masked(tile: mat4x4<f32>, query0: u32, key0: u32, hidden: f32) -> mat4x4<f32> {
    let none = vec4<f32>(hidden);
    let i = query0 + lane.y;
    let j = key0 + lane.x;
    return mat4x4<f32>(
        select(none, tile[0], sees_quad(i, j)),
        select(none, tile[1], sees_quad(i + LANES, j)),
        select(none, tile[2], sees_quad(i + 2u * LANES, j)),
        select(none, tile[3], sees_quad(i + 3u * LANES, j)),
    );
}

// exp(tile - shift), a shift for each row.
fn exp_rows(tile: mat4x4<f32>, shift: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        exp(tile[0] - shift.x),
        exp(tile[1] - shift.y),
        exp(tile[2] - shift.z),
        exp(tile[3] - shift.w),
    );
}

fn scale_rows(tile: mat4x4<f32>, factor: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        factor.x * tile[0],
        factor.y * tile[1],
        factor.z * tile[2],
        factor.w * tile[3],
    );
}

// Largest of a thread's own columns.
fn own_maximum(tile: mat4x4<f32>) -> vec4<f32> {
    let columns = transpose(tile);
    return max(max(columns[0], columns[1]), max(columns[2], columns[3]));
}

// Sum over a thread's own columns.
fn own_sum(tile: mat4x4<f32>) -> vec4<f32> {
    let columns = transpose(tile);
    return columns[0] + columns[1] + (columns[2] + columns[3]);
}

// Largest over all columns, the same for all threads of a row.
fn row_maximum(tile: mat4x4<f32>) -> vec4<f32> {
    var most = own_maximum(tile);
    staged_rows[lane.x * STRIDE + lane.y] = most;
    workgroupBarrier();
    for (var l = 0u; l < LANES; l++) {
        most = max(most, staged_rows[l * STRIDE + lane.y]);
    }
    workgroupBarrier();
    return most;
}

// --- weighted sums of rows --------------------------------------------------

// Sums for a tile's rows over up to 128 columns: the first 64 and the rest;
// and of the weights themselves.
struct Sums {
    low: mat4x4<f32>,
    high: mat4x4<f32>,
    weights: vec4<f32>,
}

// Adds 16 staged rows of columns, weighed by the staged quads of weights.
fn add_staged(sums: ptr<function, Sums>) {
    workgroupBarrier();
    for (var d = 0u; d < LANES; d++) {
        let weight = staged_rows[d * STRIDE + lane.y];
        (*sums).weights += weight;
        (*sums).low += outer(weight, staged_columns[d * LANES + lane.x]);
        if WIDE {
            let high = staged_columns[(LANES + d) * LANES + lane.x];
            (*sums).high += outer(weight, high);
        }
    }
    workgroupBarrier();
}

// A tile's weights are staged 16 keys or queries at a time: a thread's four
// rows at one of its columns, or the other way round. They are taken in turns
// from `next`, whose quads move up: an index that changes would put it into
// slow memory.
fn turned(next: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(next[1], next[2], next[3], next[0]);
}

fn add_values(weights: mat4x4<f32>, key0: u32, sums: ptr<function, Sums>) {
    var next = transpose(weights);
    for (var j = key0; j < key0 + TILE; j += LANES) {
        staged_rows[lane.x * STRIDE + lane.y] = next[0];
        let at = lane.y * LANES + lane.x;
        staged_columns[at] = value_columns(j + lane.y, own_column());
        if WIDE {
            staged_columns[at + LANES * LANES] = value_columns(j + lane.y, own_column() + TILE);
        }
        add_staged(sums);
        next = turned(next);
    }
}

fn add_keys(weights: mat4x4<f32>, key0: u32, sums: ptr<function, Sums>) {
    var next = transpose(weights);
    for (var j = key0; j < key0 + TILE; j += LANES) {
        staged_rows[lane.x * STRIDE + lane.y] = next[0];
        let at = lane.y * LANES + lane.x;
        staged_columns[at] = key_columns(j + lane.y, own_column());
        if WIDE {
            staged_columns[at + LANES * LANES] = key_columns(j + lane.y, own_column() + TILE);
        }
        add_staged(sums);
        next = turned(next);
    }
}

fn add_doutputs(weights: mat4x4<f32>, query0: u32, sums: ptr<function, Sums>) {
    var next = weights;
    for (var i = query0; i < query0 + TILE; i += LANES) {
        staged_rows[lane.y * STRIDE + lane.x] = next[0];
        let at = lane.y * LANES + lane.x;
        staged_columns[at] = doutput_columns(i + lane.y, own_column());
        if WIDE {
            staged_columns[at + LANES * LANES] = doutput_columns(i + lane.y, own_column() + TILE);
        }
        add_staged(sums);
        next = turned(next);
    }
}

fn add_queries(weights: mat4x4<f32>, query0: u32, sums: ptr<function, Sums>) {
    var next = weights;
    for (var i = query0; i < query0 + TILE; i += LANES) {
        staged_rows[lane.y * STRIDE + lane.x] = next[0];
        let at = lane.y * LANES + lane.x;
        staged_columns[at] = query_columns(i + lane.y, own_column());
        if WIDE {
            staged_columns[at + LANES * LANES] = query_columns(i + lane.y, own_column() + TILE);
        }
        add_staged(sums);
        next = turned(next);
    }
}

// Adds to each query's sum what it owes to the positions: the tile's weights
// lie on 127 diagonals, one for each position vector, which are staged 16 at
// a time. Thread (x, y) has weights on the seven that begin with number
// x + 15 - y and are 16 apart: on one of every 16, from the first 16 or from
// the second on. A shifted score of a key after its query depends on the next
// query, so such weights move down a row.
fn add_positions(weights: mat4x4<f32>, query0: u32, key0: u32, sums: ptr<function, Sums>) {
    let lowest = lane.x + LANES - 1u - lane.y;
    let diagonal = lowest % LANES;
    let w = weights;
    let none = vec4<f32>();
    var next0 = vec4<f32>(0.0, 0.0, 0.0, w[3].x);
    var next1 = vec4<f32>(0.0, 0.0, w[2].x, w[3].y);
    var next2 = vec4<f32>(0.0, w[1].x, w[2].y, w[3].z);
    var next3 = vec4<f32>(w[0].x, w[1].y, w[2].z, w[3].w);
    var next4 = vec4<f32>(w[0].y, w[1].z, w[2].w, 0.0);
    var next5 = vec4<f32>(w[0].z, w[1].w, 0.0, 0.0);
    var next6 = vec4<f32>(w[0].w, 0.0, 0.0, 0.0);
    var last = none;
    // Distance of the first of the 16.
    var distance = i32(key0) - i32(query0) - i32(TILE - 1u);
    for (var d = 0u; d < 2u * TILE; d += LANES) {
        var own = select(last, next0, lowest < LANES);
        var row = lane.y;
        if SHIFTED && distance + i32(diagonal) > 0 {
            row += 1u;
            if row == LANES {
                // Row 15 of each 16 moves to row 0 of the next.
                row = 0u;
                own = vec4<f32>(0.0, own.xyz);
            }
        }
        staged_rows[diagonal * STRIDE + row] = own;
        let at = lane.y * LANES + lane.x;
        let staged = distance + i32(lane.y);
        staged_columns[at] = position_columns(staged, own_column());
        if WIDE {
            staged_columns[at + LANES * LANES] = position_columns(staged, own_column() + TILE);
        }
        add_staged(sums);
        last = next0;
        next0 = next1;
        next1 = next2;
        next2 = next3;
        next3 = next4;
        next4 = next5;
        next5 = next6;
        next6 = none;
        distance += i32(LANES);
    }
}

// --- forward ----------------------------------------------------------------

// The first of the tiles of keys of which the tile's queries see any.
fn keys_begin(query0: u32) -> u32 {
    if BOUNDED {
        return (query0 - min(query0, params.before)) / TILE * TILE;
    }
    return 0u;
}

// Keys from which on no query of the tile sees any.
fn keys_end(query0: u32) -> u32 {
    if BOUNDED {
        return min(params.keys, query0 + TILE + params.behind);
    }
    return params.keys;
}

fn write_output(at: u32, column: u32, quad: vec4<f32>) {
    if column < params.depth {
        output[at + column] = quad.x;
    }
    if column + LANES < params.depth {
        output[at + column + LANES] = quad.y;
    }
    if column + 2u * LANES < params.depth {
        output[at + column + 2u * LANES] = quad.z;
    }
    if column + 3u * LANES < params.depth {
        output[at + column + 3u * LANES] = quad.w;
    }
}

fn write_output_row(n: u32, i: u32, low: vec4<f32>, high: vec4<f32>) {
    if i >= params.queries {
        return;
    }
    let at = (n * params.queries + i) * width() + head_column;
    write_output(at, own_column(), low);
    if WIDE {
        write_output(at, own_column() + TILE, high);
    }
}

fn write_statistics(at: u32, i: u32, most: f32, log_sum: f32) {
    if i < params.queries {
        statistics[2u * (at + i)] = most;
        statistics[2u * (at + i) + 1u] = log_sum;
    }
}

@compute @workgroup_size(LANES, LANES)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let n = folded_row(group, groups);
    if n >= params.lead {
        return;
    }
    let tiles = (params.queries + TILE - 1u) / TILE;
    let head = group.x / tiles;
    let query0 = group.x % tiles * TILE;
    begin(n, head, local);
    var most = vec4<f32>(UNSEEN);
    var sums = Sums();
    let end = keys_end(query0);
    for (var key0 = keys_begin(query0); key0 < end; key0 += TILE) {
        let tile = masked(products(query0, key0, AFTER).scores, query0, key0, UNSEEN);
        let larger = max(most, row_maximum(tile));
        let decay = exp(most - larger);
        most = larger;
        sums.weights *= decay;
        sums.low = scale_rows(sums.low, decay);
        sums.high = scale_rows(sums.high, decay);
        add_values(exp_rows(tile, most), key0, &sums);
    }
    let i = query0 + lane.y;
    if WRITE_OUTPUT {
        let low = scale_rows(sums.low, 1.0 / sums.weights);
        let high = scale_rows(sums.high, 1.0 / sums.weights);
        write_output_row(n, i, low[0], high[0]);
        write_output_row(n, i + LANES, low[1], high[1]);
        write_output_row(n, i + 2u * LANES, low[2], high[2]);
        write_output_row(n, i + 3u * LANES, low[3], high[3]);
    }
    if WRITE_STATISTICS && lane.x == 0u {
        let at = (n * params.heads + head) * params.queries;
        let log_sum = log(sums.weights);
        write_statistics(at, i, most.x, log_sum.x);
        write_statistics(at, i + LANES, most.y, log_sum.y);
        write_statistics(at, i + 2u * LANES, most.z, log_sum.z);
        write_statistics(at, i + 3u * LANES, most.w, log_sum.w);
    }
}

fn write_probabilities(row: u32, i: u32, j: u32, quad: vec4<f32>) {
    if i >= params.queries {
        return;
    }
    let at = (row + i) * params.keys;
    if j < params.keys {
        probabilities[at + j] = quad.x;
    }
    if j + LANES < params.keys {
        probabilities[at + j + LANES] = quad.y;
    }
    if j + 2u * LANES < params.keys {
        probabilities[at + j + 2u * LANES] = quad.z;
    }
    if j + 3u * LANES < params.keys {
        probabilities[at + j + 3u * LANES] = quad.w;
    }
}

// The probabilities themselves. Where they are wanted there are few queries,
// and the output may not be wanted at all: so this goes over the keys twice.
@compute @workgroup_size(LANES, LANES)
fn emit_probabilities(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let n = folded_row(group, groups);
    if n >= params.lead {
        return;
    }
    let tiles = (params.queries + TILE - 1u) / TILE;
    let head = group.x / tiles;
    let query0 = group.x % tiles * TILE;
    begin(n, head, local);
    let row = (n * params.heads + head) * params.queries;
    let i = query0 + lane.y;
    // Largest score and sum over a thread's own columns, then over all.
    var most = vec4<f32>(UNSEEN);
    var sum = vec4<f32>();
    for (var writing = 0u; writing < 2u; writing++) {
        for (var key0 = 0u; key0 < params.keys; key0 += TILE) {
            let scores = products(query0, key0, AFTER).scores;
            if writing == 0u {
                let tile = masked(scores, query0, key0, UNSEEN);
                let larger = max(most, own_maximum(tile));
                sum = sum * exp(most - larger) + own_sum(exp_rows(tile, larger));
                most = larger;
            } else {
                let tile = masked(exp_rows(scores, most), query0, key0, 0.0);
                let p = scale_rows(tile, 1.0 / sum);
                let j = key0 + lane.x;
                write_probabilities(row, i, j, p[0]);
                write_probabilities(row, i + LANES, j, p[1]);
                write_probabilities(row, i + 2u * LANES, j, p[2]);
                write_probabilities(row, i + 3u * LANES, j, p[3]);
            }
        }
        if writing == 0u {
            staged_rows[lane.x * STRIDE + lane.y] = most;
            staged_columns[lane.x * STRIDE + lane.y] = sum;
            workgroupBarrier();
            for (var l = 0u; l < LANES; l++) {
                most = max(most, staged_rows[l * STRIDE + lane.y]);
            }
            sum = vec4<f32>();
            for (var l = 0u; l < LANES; l++) {
                let at = l * STRIDE + lane.y;
                sum += staged_columns[at] * exp(staged_rows[at] - most);
            }
            workgroupBarrier();
        }
    }
}

// --- reverse ----------------------------------------------------------------
//
// With P the probabilities, dS_ij = scale * P_ij * (doutput_i * v_j - delta_i)
// and delta_i = doutput_i * output_i:
//     dv_j = sum over i of P_ij doutput_i
//     dk_j = sum over i of dS_ij (q_i + u)
//     dq_i = sum over j of dS_ij k_j
//          + sum over j of dS_ij p_(T-1-i+j), where shifted over j <= i
//          + where shifted sum over j > i of dS_(i-1)j p_(j-i-1)

// One of the two terms of a thread's four queries; 0: logarithm of the sum of
// exp(score), 1: delta.
fn own_terms(row: u32, i: u32, which: u32) -> vec4<f32> {
    return vec4<f32>(
        term_at(row, i, which),
        term_at(row, i + LANES, which),
        term_at(row, i + 2u * LANES, which),
        term_at(row, i + 3u * LANES, which),
    );
}

fn term_at(row: u32, i: u32, which: u32) -> f32 {
    let inside = i < params.queries;
    return select(0.0, terms[select(0u, 2u * (row + i) + which, inside)], inside);
}

fn known_probabilities(
    scores: mat4x4<f32>,
    query0: u32,
    key0: u32,
    log_sums: vec4<f32>,
) -> mat4x4<f32> {
    return masked(exp_rows(scores, log_sums), query0, key0, 0.0);
}

fn dscores(p: mat4x4<f32>, dp: mat4x4<f32>, delta: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        params.scale * p[0] * (dp[0] - delta.x),
        params.scale * p[1] * (dp[1] - delta.y),
        params.scale * p[2] * (dp[2] - delta.z),
        params.scale * p[3] * (dp[3] - delta.w),
    );
}

fn write_dquery(at: u32, column: u32, quad: vec4<f32>) {
    if column < params.depth {
        dquery[at + column] = quad.x;
    }
    if column + LANES < params.depth {
        dquery[at + column + LANES] = quad.y;
    }
    if column + 2u * LANES < params.depth {
        dquery[at + column + 2u * LANES] = quad.z;
    }
    if column + 3u * LANES < params.depth {
        dquery[at + column + 3u * LANES] = quad.w;
    }
}

fn write_dquery_row(n: u32, i: u32, low: vec4<f32>, high: vec4<f32>) {
    if i >= params.d_rows {
        return;
    }
    let row = (n * params.d_rows + i) * params.d_columns;
    let at = row + params.dquery_offset + head_column;
    write_dquery(at, own_column(), low);
    if WIDE {
        write_dquery(at, own_column() + TILE, high);
    }
}

@compute @workgroup_size(LANES, LANES)
fn reverse_query(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let n = folded_row(group, groups);
    if n >= params.lead {
        return;
    }
    let own_queries = select(TILE, SHIFTED_TILE, SHIFTED);
    let tiles = (params.d_rows + own_queries - 1u) / own_queries;
    let head = group.x / tiles;
    // Row 0 of a tile with shifted positions is the query before its first;
    // for the first tile there is none, and 2^32 - 1 is no query.
    let query0 = group.x % tiles * own_queries - select(0u, 1u, SHIFTED);
    begin(n, head, local);
    let row = (n * params.heads + head) * params.queries;
    let i = query0 + lane.y;
    let log_sums = own_terms(row, i, 0u);
    let delta = own_terms(row, i, 1u);
    var sums = Sums();
    let end = keys_end(query0);
    for (var key0 = keys_begin(query0); key0 < end; key0 += TILE) {
        let tile = products(query0, key0, COTANGENT);
        let p = known_probabilities(tile.scores, query0, key0, log_sums);
        let ds = dscores(p, tile.dprobabilities, delta);
        add_keys(ds, key0, &sums);
        if RELATIVE {
            add_positions(ds, query0, key0, &sums);
        }
    }
    if !SHIFTED || lane.y > 0u {
        write_dquery_row(n, i, sums.low[0], sums.high[0]);
    }
    write_dquery_row(n, i + LANES, sums.low[1], sums.high[1]);
    write_dquery_row(n, i + 2u * LANES, sums.low[2], sums.high[2]);
    write_dquery_row(n, i + 3u * LANES, sums.low[3], sums.high[3]);
}

fn write_dkey_value(at: u32, column: u32, quad: vec4<f32>) {
    if column < params.depth {
        dkey_value[at + column] = quad.x;
    }
    if column + LANES < params.depth {
        dkey_value[at + column + LANES] = quad.y;
    }
    if column + 2u * LANES < params.depth {
        dkey_value[at + column + 2u * LANES] = quad.z;
    }
    if column + 3u * LANES < params.depth {
        dkey_value[at + column + 3u * LANES] = quad.w;
    }
}

fn write_dkey_value_row(n: u32, j: u32, offset: u32, low: vec4<f32>, high: vec4<f32>) {
    if j >= params.d_rows {
        return;
    }
    let at = (n * params.d_rows + j) * params.d_columns + offset + head_column;
    write_dkey_value(at, own_column(), low);
    if WIDE {
        write_dkey_value(at, own_column() + TILE, high);
    }
}

fn write_dkey_value_rows(n: u32, j: u32, offset: u32, sums: Sums) {
    write_dkey_value_row(n, j, offset, sums.low[0], sums.high[0]);
    write_dkey_value_row(n, j + LANES, offset, sums.low[1], sums.high[1]);
    write_dkey_value_row(n, j + 2u * LANES, offset, sums.low[2], sums.high[2]);
    write_dkey_value_row(n, j + 3u * LANES, offset, sums.low[3], sums.high[3]);
}

@compute @workgroup_size(LANES, LANES)
fn reverse_key_value(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let n = folded_row(group, groups);
    if n >= params.lead {
        return;
    }
    let tiles = (params.d_rows + TILE - 1u) / TILE;
    let head = group.x / tiles;
    let key0 = group.x % tiles * TILE;
    begin(n, head, local);
    let row = (n * params.heads + head) * params.queries;
    var dkeys = Sums();
    var dvalues = Sums();
    // Queries further off see none of the tile's keys.
    var first = 0u;
    var last = params.queries;
    if BOUNDED {
        first = (key0 - min(key0, params.behind)) / TILE * TILE;
        last = min(last, key0 + TILE + params.before);
    }
    for (var query0 = first; query0 < last; query0 += TILE) {
        let log_sums = own_terms(row, query0 + lane.y, 0u);
        // Values' cotangents need the scores alone.
        let tile = products(query0, key0, select(AFTER, COTANGENT, WRITE_DKEY));
        let p = known_probabilities(tile.scores, query0, key0, log_sums);
        if WRITE_DVALUE {
            add_doutputs(p, query0, &dvalues);
        }
        if WRITE_DKEY {
            let delta = own_terms(row, query0 + lane.y, 1u);
            let ds = dscores(p, tile.dprobabilities, delta);
            add_queries(ds, query0, &dkeys);
        }
    }
    let j = key0 + lane.y;
    if WRITE_DVALUE {
        write_dkey_value_rows(n, j, params.dvalue_offset, dvalues);
    }
    if WRITE_DKEY {
        write_dkey_value_rows(n, j, params.dkey_offset, dkeys);
    }
}
