// Sums and maxima over a workgroup, the same for all of its lanes. Whoever imports
// it has a const WORKGROUP, its invocations, and an alias Lane, f32 or a vector of
// f32, of which each lane brings one.

var<workgroup> lanes: array<Lane, WORKGROUP>;

fn workgroup_max(lane: u32, value: Lane) -> Lane {
    workgroupBarrier();
    lanes[lane] = value;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            lanes[lane] = max(lanes[lane], lanes[lane + reach]);
        }
    }
    workgroupBarrier();
    return lanes[0];
}

fn workgroup_sum(lane: u32, value: Lane) -> Lane {
    workgroupBarrier();
    lanes[lane] = value;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            lanes[lane] += lanes[lane + reach];
        }
    }
    workgroupBarrier();
    return lanes[0];
}
