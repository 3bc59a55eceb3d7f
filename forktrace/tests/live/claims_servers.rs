//! The claims about servers, pools and creation: altered so that the truth is another,
//! each must come out the other way.

use crate::support::check_altered;

#[test]
fn a_pool_that_sleeps_while_it_leads_refutes_that_it_is_only_blocked_when_idle() {
    check_altered(
        "all-blocked-only-idle",
        &[(
            "pool",
            "\"{seconds}\"",
            "\"{seconds}\", \"--nap-as-leader-us\", \"2000\"",
        )],
        "refuted",
    );
}

#[test]
fn a_pool_that_forgets_a_socket_refutes_that_it_is_only_blocked_when_idle() {
    check_altered(
        "all-blocked-only-idle",
        &[(
            "pool",
            "\"{seconds}\"",
            "\"{seconds}\", \"--forget-socket\"",
        )],
        "refuted",
    );
}

#[test]
fn a_pool_that_sleeps_while_it_leads_refutes_that_enough_work_keeps_it_awake() {
    check_altered(
        "enough-work",
        &[(
            "saturated",
            "\"{seconds}\"",
            "\"{seconds}\", \"--nap-as-leader-us\", \"300\"",
        )],
        "refuted",
    );
}

#[test]
fn a_pool_whose_workers_end_after_a_job_refutes_that_pools_amortise() {
    for arm in ["thread_pool", "process_pool"] {
        check_altered(
            "pool-amortises",
            &[(
                arm,
                "\"{workers}\"",
                "\"{workers}\", \"--jobs-per-worker\", \"1\"",
            )],
            "refuted",
        );
    }
}

#[test]
fn a_process_with_much_memory_supports_that_creation_is_expensive() {
    check_altered(
        "process-creation-expensive",
        &[("job_10_ms", "\"{heap_mib}\"", "\"1024\"")],
        "supported",
    );
}

#[test]
fn one_cpu_refutes_that_a_thread_for_each_connection_is_better() {
    check_altered(
        "thread-per-fd",
        &[(
            "load",
            "\"{seconds}\"",
            "\"{seconds}\", \"--pin-cpu\", \"0\"",
        )],
        "refuted",
    );
}
