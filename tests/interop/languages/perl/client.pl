# A client on Gearman::Client: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py.
use strict;
use warnings;
use Gearman::Client;

my ($port, $action, $name, $priority, $unique) = @ARGV;
binmode $_ for *STDIN, *STDOUT;
my $payload = do { local $/; <STDIN> // '' };
my $client = Gearman::Client->new(job_servers => ["127.0.0.1:$port"], exceptions => $action eq 'exceptions');
my $failed = 0;

sub options {
    return {
        uniq => $unique,
        ($priority ? (priority => $priority) : ()),
        on_complete  => sub { print ${ $_[0] } },
        on_data      => sub { print ${ $_[0] } },
        on_warning   => sub { print STDERR "warning ${ $_[0] }\n" },
        on_status    => sub { print STDERR "status $_[0]/$_[1]\n" },
        on_exception => sub { print STDERR 'exception ', (ref $_[0] ? ${ $_[0] } : $_[0]), "\n"; $failed = 1 },
        on_fail      => sub { print STDERR "fail\n"; $failed = 1 },
    };
}

if ($action eq 'run' || $action eq 'exceptions') {
    my $set = $client->new_task_set;
    $set->add_task($name, \$payload, options());
    $set->wait(timeout => 60);
} elsif ($action eq 'parallel') {
    my $set = $client->new_task_set;
    $set->add_task($name, \(my $line = $_), options()) for split /^/, $payload;
    $set->wait(timeout => 60);
} elsif ($action eq 'background') {
    my $handle = $client->dispatch_background($name, \$payload, options());
    print +(split m{//}, $handle)[1], "\n"; # it puts the server in front
} elsif ($action eq 'query') {
    my $status = $client->get_status("127.0.0.1:$port//$name");
    my $progress = $status->progress || [0, 0];
    printf "%d %d %d %d\n", $status->known, $status->running, @$progress;
} elsif ($action eq 'admin') {
    my $status = $client->get_job_server_status->{"127.0.0.1:$port"}{$name};
    print "$status->{queued} $status->{running} $status->{capable}\n";
} else {
    exit 64;
}
exit $failed;
