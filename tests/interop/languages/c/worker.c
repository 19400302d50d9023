/* A worker on libgearman: PORT PREFIX. The functions that it offers are listed in ../packages.py. */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static gearman_return_t echo(gearman_job_st *job, void *context)
{
  (void)context;
  return gearman_job_send_complete(job, gearman_job_workload(job), gearman_job_workload_size(job));
}

static gearman_return_t stream(gearman_job_st *job, void *context)
{
  (void)context;
  gearman_job_send_data(job, "one ", 4);
  gearman_job_send_data(job, "two ", 4);
  return gearman_job_send_complete(job, "three", 5);
}

static gearman_return_t warn(gearman_job_st *job, void *context)
{
  gearman_job_send_warning(job, "careful", 7);
  return echo(job, context);
}

static gearman_return_t status(gearman_job_st *job, void *context)
{
  gearman_job_send_status(job, 1, 4);
  gearman_job_send_status(job, 3, 4);
  return echo(job, context);
}

static gearman_return_t fail(gearman_job_st *job, void *context)
{
  (void)context;
  return gearman_job_send_fail(job);
}

static gearman_return_t raise_it(gearman_job_st *job, void *context)
{
  (void)context;
  return gearman_job_send_exception(job, "it broke", 8);
}

static gearman_return_t unique(gearman_job_st *job, void *context)
{
  (void)context;
  const char *key= gearman_job_unique(job);
  return gearman_job_send_complete(job, key, strlen(key));
}

static gearman_return_t late(gearman_job_st *job, void *context)
{
  char path[4096];
  snprintf(path, sizeof path, "%.*s", (int)gearman_job_workload_size(job), (const char *)gearman_job_workload(job));
  while (access(path, F_OK) != 0) usleep(5000);
  return echo(job, context);
}

int main(int argc, char **argv)
{
  static const struct { const char *name; gearman_function_fn *function; uint32_t timeout; } offers[]= {
    { "echo", echo, 0 }, { "stream", stream, 0 }, { "warn", warn, 0 }, { "status", status, 0 }, { "fail", fail, 0 },
    { "raise", raise_it, 0 }, { "unique", unique, 0 }, { "gr\xc3\xb6\xc3\x9f" "e", echo, 0 }, { "late", late, 1 },
  };
  if (argc != 3) return 64;
  gearman_worker_st *worker= gearman_worker_create(NULL);
  gearman_worker_add_server(worker, "127.0.0.1", (in_port_t)atoi(argv[1]));
  gearman_worker_set_identifier(worker, argv[2], strlen(argv[2]));
  for (size_t i= 0; i < sizeof offers / sizeof *offers; i++)
  {
    char name[128];
    int length= snprintf(name, sizeof name, "%s-%s", argv[2], offers[i].name);
    gearman_worker_define_function(worker, name, (size_t)length, gearman_function_create(offers[i].function),
                                   offers[i].timeout, NULL);
  }
  gearman_return_t ret;
  do ret= gearman_worker_work(worker);
  while (gearman_success(ret) || ret == GEARMAN_WORK_FAIL || ret == GEARMAN_WORK_EXCEPTION);
  fprintf(stderr, "error %s\n", gearman_worker_error(worker));
  return 2;
}
