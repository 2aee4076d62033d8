# Coro's coroutines, which switch C stacks, with channels between them.
use strict;
use warnings;
use Coro;
use Coro::Channel;
use Digest::MD5 qw(md5_hex);

$| = 1;
print "ready $$\n";
my $first;
until (defined $first && -e $ENV{STOP}) {
    my $channel = Coro::Channel->new(5);
    my @all = map {
        my $seed = $_;
        async {
            my $sum = '';
            for my $step (1 .. 20) {
                my @sorted = sort { $a <=> $b } map { cede if $_ == 7; $_ } map { ($_ * $seed + $step) % 101 } 1 .. 20;
                $sum = md5_hex($sum . join ',', @sorted);
                cede;
            }
            $channel->put("$seed $sum");
        }
    } 1 .. 15;
    my $result = substr md5_hex(join ';', sort map { $channel->get } @all), 0, 16;
    $_->join for @all;
    die "survive: $result is $first" if defined $first && $first ne $result;
    $first = $result;
}
print "result $first\n";
exit 7;
