# A worker on Gearman::Worker: PORT PREFIX. The functions that it offers are listed in ../packages.py.
use strict;
use warnings;
use Gearman::Worker;

my ($port, $prefix) = @ARGV;
my $worker = Gearman::Worker->new(job_servers => ["127.0.0.1:$port"], client_id => $prefix);
my %offers = (
    echo   => sub { $_[0]->arg },
    stream => sub {
        my ($job) = @_;
        $worker->send_work_data($job, $_) for 'one ', 'two ';
        return 'three';
    },
    warn => sub {
        my ($job) = @_;
        $worker->send_work_warning($job, 'careful');
        return $job->arg;
    },
    status => sub {
        my ($job) = @_;
        $job->set_status($_, 4) for 1, 3;
        return $job->arg;
    },
    fail                    => sub { undef },
    raise                   => sub { die "it broke\n" },
    "gr\xc3\xb6\xc3\x9fe" => sub { $_[0]->arg },
);
$worker->register_function("$prefix-$_", $offers{$_}) for sort keys %offers;
my $late = sub { my ($job) = @_; select undef, undef, undef, 0.005 until -e $job->arg; return $job->arg };
$worker->register_function("$prefix-late", 1, $late); # its timeout is in seconds
$worker->work;
