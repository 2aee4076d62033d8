//! Which probes a process gets, by what was asked for and what this kernel has.

use memtrace_common::{call::Call, prediction::Prediction};

use super::{SessionError, config::TraceConfig};
use crate::{
    allocator::{AllocatorError, Ends, Plan, Plans},
    kernel::{features, return_probes},
    runtime::go,
    target::{Pid, Target, status::SeccompMode},
};

/// Why return probes may kill this process, if they may.
pub(super) fn confined(target: &Target) -> Option<SessionError> {
    let seccomp = target.seccomp();
    let safe = seccomp == SeccompMode::Disabled || return_probes::with_filter().allow(seccomp);
    (!safe).then(|| SessionError::Seccomp(target.pid()))
}

/// How results are predicted.
pub(super) fn prediction(plan: &Plan) -> Option<Prediction> {
    plan.sites.iter().find_map(|site| site.prediction)
}

/// How the ends of calls are seen on this kernel.
pub(super) fn ends() -> Ends {
    if features::has_sessions() { Ends::Sessions } else { Ends::ReturnProbes }
}

/// The probes of a process, bound to one of its threads; with `--syscalls` without those of the mapping functions.
pub(super) fn plan(
    target: &Target,
    bound_to: Pid,
    plans: &mut Plans,
    config: &TraceConfig,
) -> Result<Plan, SessionError> {
    if config.probes.growth {
        return Ok(Plan::default());
    }
    let pid = target.pid();
    let ends = match config.probes.no_return_probes {
        true => Ends::WaysOut,
        // Sessions are a matter of links that take a process by its first thread.
        false if bound_to != pid => Ends::ReturnProbes,
        false => ends(),
    };
    let objects = target.objects()?;
    let mut plan = match plans.plan(&objects, &config.probes.wrappers, ends) {
        // Its own runtime tells what it holds, without a probe.
        Err(AllocatorError::NotFound(_)) if go::is_in(&objects) => return Ok(Plan::default()),
        plan => plan.map_err(|source| SessionError::Allocator { pid, source })?,
    };
    if config.probes.syscalls {
        plan.sites.retain(|site| !site.call.is_mapping());
    }
    if config.internal.releases_only {
        plan.sites.retain(|site| site.call != Call::Allocate);
    }
    Ok(plan)
}
