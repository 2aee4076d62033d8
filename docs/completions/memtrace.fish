# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_memtrace_global_optspecs
    string join \n pid= cgroup= container= follow no-hold user= exit-code interval= duration= top= format= metric= tui output= debuginfod= min-size= max-size= mode= sample= max-overhead= syscalls ask no-return-probes no-prediction alloc= realloc= free= ring-size= unwind-memory= verify-stacks empty-programs include= exclude= older= mark fail-on-leak leak-threshold= suppressions= junit= sarif= h/help V/version
end

function __fish_memtrace_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_memtrace_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_memtrace_using_subcommand
    set -l cmd (__fish_memtrace_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c memtrace -n "__fish_memtrace_needs_command" -l pid -d 'Trace this running process; may be given more than once' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l cgroup -d 'Trace every process in this cgroup and below it, present and to come; may be given more than once' -r -F
complete -c memtrace -n "__fish_memtrace_needs_command" -l container -d 'Trace every process in this container, present and to come; may be given more than once' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l user -d 'Run the command as this user; without a name, as the one who called sudo' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l interval -d 'How often to sample and report, such as 500ms; a number alone is seconds [default: 5s, with --tui 1s]' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l duration -d 'End the run after this long, such as 60s or 10m' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l top -d 'How many stacks a report shows: by default 10 in text and in JSON on standard output, all in the other forms and at the end of a JSON file' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l format -d 'The report\'s form; by default what the name of --output asks for, or else text' -r -f -a "text\t'For people, 80 columns'
json\t'One object a line, for scripts'
folded\t'One line a stack, for other flame graph tools'
flamegraph\t'A flame graph, coloured by growth (SVG)'
pprof\t'For `go tool pprof` (protobuf, compressed)'
html\t'One page with everything, for a browser'"
complete -c memtrace -n "__fish_memtrace_needs_command" -l metric -d 'What weighs a stack in folded, flamegraph, pprof and html; inuse_space by default' -r -f -a "inuse_space\t'outstanding bytes'
inuse_objects\t'outstanding blocks'
alloc_space\t'allocated bytes'
alloc_objects\t'allocations'
growth\t'growth in bytes per hour'"
complete -c memtrace -n "__fish_memtrace_needs_command" -l output -d 'Write the report to this file instead of standard output' -r -F
complete -c memtrace -n "__fish_memtrace_needs_command" -l debuginfod -d 'Ask debuginfod servers for the debug files of programs and libraries without symbols; without addresses, those that DEBUGINFOD_URLS or else /etc/debuginfod names. Where DEBUGINFOD_URLS is set this happens without the flag, and \'--debuginfod=\' turns it off. The servers learn the build ids of these files' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l min-size -d 'Leave out blocks smaller than this, such as 64 or 4KiB' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l max-size -d 'Leave out blocks larger than this' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l mode -d 'What is watched: every block (allocations), or only what makes the process larger (growth). growth puts no probe into the target, and slows the system calls and page faults of every process on the machine a little; it shows who enlarged the process, not whose blocks stay' -r -f -a "allocations\t'Every call that allocates or releases'
growth\t'brk, mappings and first writes to pages'"
complete -c memtrace -n "__fish_memtrace_needs_command" -l sample -d 'Look at a sample of the heap blocks only: on the average one for every so many bytes that are allocated, such as 512KiB. Costs less, and sizes become estimates with their error' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l max-overhead -d 'Keep the slowdown near this percentage of the processor time that the targets use, such as 5%; the first seconds may exceed it. When tracing would cost more, fewer blocks are sampled, then recording pauses for allocations, then for releases too' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l alloc -d 'Trace this function as malloc is traced: \'FILE:FUNCTION(size=arg0)\', with count=argN for a product and result=argN where the address is stored there; FILE may be \'exe\', FUNCTION an address 0x...; name a C++ function that may throw by its mangled symbol, not by its address, or an exception ends the program; may be repeated' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l realloc -d 'Trace this function as realloc is traced: \'FILE:FUNCTION(ptr=arg0,size=arg1)\'' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l free -d 'Trace this function as free is traced: \'FILE:FUNCTION(ptr=arg0)\'' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l ring-size -d 'Size of the buffer between kernel and memtrace; a power of two' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l unwind-memory -d 'The most kernel memory for unwind tables; when it is full, the least recently used ones are removed' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l include -d 'Show and judge only stacks with a function, module or source file that this is found in (* any text, ^ and $ the ends), or by function:, module:, file:, stack:a;b;c; may be given more than once' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l exclude -d 'Hide stacks that match this pattern, written as for --include, and do not judge them; may be given more than once' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l older -d 'Count only blocks older than this, such as 30s, to leave out those of requests in flight; verdicts are still made of all blocks' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l leak-threshold -d 'Let growing stacks pass whose estimated rate is below this, such as 1MB/h or 64KiB/s (per s, min, h or d)' -r
complete -c memtrace -n "__fish_memtrace_needs_command" -l suppressions -d 'Known leaks that pass: a file with a rule a line, as LeakSanitizer has them (leak:PATTERN), or function:, module:, file:, stack:a;b;c; may be given more than once' -r -F
complete -c memtrace -n "__fish_memtrace_needs_command" -l junit -d 'Also write the result to this file as JUnit XML' -r -F
complete -c memtrace -n "__fish_memtrace_needs_command" -l sarif -d 'Also write the result to this file as SARIF 2.1.0' -r -F
complete -c memtrace -n "__fish_memtrace_needs_command" -l follow -d 'Trace the children of the targets, too, and theirs, present and to come'
complete -c memtrace -n "__fish_memtrace_needs_command" -l no-hold -d 'Do not hold a command and, with --follow, the children at their start: debuggers can attach to them, and what children and new programs do in their first tenth of a second is not seen'
complete -c memtrace -n "__fish_memtrace_needs_command" -l exit-code -d 'End with the exit status of the command, 128 and its signal\'s number if one ended it'
complete -c memtrace -n "__fish_memtrace_needs_command" -l tui -d 'Watch the stacks in this terminal while the run goes on; the report comes at its end'
complete -c memtrace -n "__fish_memtrace_needs_command" -l syscalls -d 'Take mappings and brk from system-call tracepoints, for programs that call the kernel without libc; this slows the system calls of every process on the machine a little'
complete -c memtrace -n "__fish_memtrace_needs_command" -l ask -d 'Ask runtimes themselves what they hold, which changes the target: SIGUSR1 opens the inspector of a Node program that catches the signal (on loopback, port 9229: whoever on the machine connects to it can run code in the program; Node says so on its standard error). V8 then samples the objects that are allocated, and before each report collects its whole heap and says which functions made those that live. At the end the sampling stops, and an inspector that memtrace opened is closed; if memtrace is killed it stays open until the program ends. A Java virtual machine (HotSpot) that catches SIGQUIT opens its attach socket, as for jcmd, and keeps it until it ends; before each report it collects its whole heap and says how many objects of each class live. With -XX:+DisableAttachMechanism it prints its threads instead'
complete -c memtrace -n "__fish_memtrace_needs_command" -l no-return-probes -d 'See the ends of calls by probes on every way out of a function, and use no return probe: for processes that a seccomp filter would kill at one. A call costs eight to nine times as much as usual; no other tracer may run at the time'
complete -c memtrace -n "__fish_memtrace_needs_command" -l no-prediction -d 'Always probe the returns of allocating functions, also where the block can be told at the entry, as with glibc\'s malloc and jemalloc; each call costs more'
complete -c memtrace -n "__fish_memtrace_needs_command" -l verify-stacks -d 'Walk every stack that a thread remembers all the same, and count where the two differ: a test of the tracer'
complete -c memtrace -n "__fish_memtrace_needs_command" -l empty-programs -d 'Attach programs that do nothing: the floor that the benchmark compares with'
complete -c memtrace -n "__fish_memtrace_needs_command" -l mark -d 'Say on standard error how a new measuring window is started: by SIGUSR1, or `memtrace mark PID`'
complete -c memtrace -n "__fish_memtrace_needs_command" -l fail-on-leak -d 'Exit with status 3 when a stack or a group of stacks is growing at the end, or 4 when an allocator in use cannot be seen'
complete -c memtrace -n "__fish_memtrace_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c memtrace -n "__fish_memtrace_needs_command" -s V -l version -d 'Print version'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "doctor" -d 'Can memtrace run here, what would it attach to, and what would that cost?'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "report" -d 'Show a saved run again, in any form'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "diff" -d 'What grew, appeared, shrank and went between two saved runs'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "watch" -d 'Watch memory as a whole, with no probes: growth, time left to the limit, alerts; for hours'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "mark" -d 'Start a new measuring window in a memtrace that runs: from now on verdicts are about what happens from now on'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "allocation-loop" -d 'Allocates and releases for each line that it reads'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "code-guard" -d 'Holds targets and takes breakpoints out of copies of their code'
complete -c memtrace -n "__fish_memtrace_needs_command" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l pid -d 'Show the probe sites of this running process; may be given more than once' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l cgroup -d 'Show those of every process in this cgroup' -r -F
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l container -d 'Show those of every process in this container' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l measure -d 'Trace the processes for this long to count their calls, and say how much slower that makes them' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l format -d 'Text, or one object of JSON' -r -f -a "text\t'For people, 80 columns'
json\t'One object a line, for scripts'"
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l alloc -d 'Trace this function as malloc is traced: \'FILE:FUNCTION(size=arg0)\', with count=argN for a product and result=argN where the address is stored there; FILE may be \'exe\', FUNCTION an address 0x...; name a C++ function that may throw by its mangled symbol, not by its address, or an exception ends the program; may be repeated' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l realloc -d 'Trace this function as realloc is traced: \'FILE:FUNCTION(ptr=arg0,size=arg1)\'' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -l free -d 'Trace this function as free is traced: \'FILE:FUNCTION(ptr=arg0)\'' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c memtrace -n "__fish_memtrace_using_subcommand report" -l format -d 'The report\'s form; by default what the name of --output asks for, or else text' -r -f -a "text\t'For people, 80 columns'
json\t'One object a line, for scripts'
folded\t'One line a stack, for other flame graph tools'
flamegraph\t'A flame graph, coloured by growth (SVG)'
pprof\t'For `go tool pprof` (protobuf, compressed)'
html\t'One page with everything, for a browser'"
complete -c memtrace -n "__fish_memtrace_using_subcommand report" -l metric -d 'What weighs a stack in folded, flamegraph, pprof and html' -r -f -a "inuse_space\t'outstanding bytes'
inuse_objects\t'outstanding blocks'
alloc_space\t'allocated bytes'
alloc_objects\t'allocations'
growth\t'growth in bytes per hour'"
complete -c memtrace -n "__fish_memtrace_using_subcommand report" -l output -d 'Write the report to this file instead of standard output' -r -F
complete -c memtrace -n "__fish_memtrace_using_subcommand report" -l top -d 'How many stacks the report shows' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c memtrace -n "__fish_memtrace_using_subcommand diff" -l by -d 'What is compared' -r -f -a "stack\t'Call stacks'
function\t'The function that asked for the memory'
module\t'The program or library of that function'"
complete -c memtrace -n "__fish_memtrace_using_subcommand diff" -l format -d 'The comparison\'s form' -r -f -a "text\t'For people, 80 columns'
json\t'One object, for scripts'"
complete -c memtrace -n "__fish_memtrace_using_subcommand diff" -l top -d 'How many changes are shown: by default 10 in text, all in JSON' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l pid -d 'Watch this running process; may be given more than once' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l cgroup -d 'Watch this cgroup as a whole and its largest processes: its directory, or its path in the hierarchy' -r -F
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l container -d 'Watch this container as a whole and its largest processes: its name or id' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l interval -d 'How often to look, such as 10s or 500ms' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l window -d 'How far back the growth rate looks' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l alert-growth -d 'Alert when the lower end of the growth rate\'s 95% interval is above this, such as 50MB/h' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l alert-size -d 'Alert when RSS and swap of a process, or the working set of a cgroup, pass this, such as 2GB' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l escalate -d 'When an alert begins, trace the process for this long and report the stacks behind it' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l duration -d 'End the watch after this long' -r
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l format -d 'The form of the lines' -r -f -a "text\t'For people, 80 columns'
json\t'One object a line, for scripts'"
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l output -d 'Write the lines to this file instead of standard output' -r -F
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -l fail-on-alert -d 'Exit with status 3 when there was an alert'
complete -c memtrace -n "__fish_memtrace_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c memtrace -n "__fish_memtrace_using_subcommand mark" -s h -l help -d 'Print help'
complete -c memtrace -n "__fish_memtrace_using_subcommand allocation-loop" -s h -l help -d 'Print help'
complete -c memtrace -n "__fish_memtrace_using_subcommand code-guard" -s h -l help -d 'Print help'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "doctor" -d 'Can memtrace run here, what would it attach to, and what would that cost?'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "report" -d 'Show a saved run again, in any form'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "diff" -d 'What grew, appeared, shrank and went between two saved runs'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "watch" -d 'Watch memory as a whole, with no probes: growth, time left to the limit, alerts; for hours'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "mark" -d 'Start a new measuring window in a memtrace that runs: from now on verdicts are about what happens from now on'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "allocation-loop" -d 'Allocates and releases for each line that it reads'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "code-guard" -d 'Holds targets and takes breakpoints out of copies of their code'
complete -c memtrace -n "__fish_memtrace_using_subcommand help; and not __fish_seen_subcommand_from doctor report diff watch mark allocation-loop code-guard help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
