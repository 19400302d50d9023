/* A client on libgearman: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py. */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gearman_client_st *client;
static char *payload;
static size_t size;
static int failed;

static void check(gearman_return_t ret, const char *what)
{
  if (gearman_success(ret)) return;
  fprintf(stderr, "error %s: %s\n", what, gearman_client_error(client));
  exit(2);
}

static void read_payload(void)
{
  size_t room= 1 << 16, got;
  payload= malloc(room);
  while ((got= fread(payload + size, 1, room - size - 1, stdin)) > 0)
  {
    size+= got;
    if (room - size < 2) payload= realloc(payload, room*= 2);
  }
  payload[size]= 0;
}

static gearman_return_t on_data(gearman_task_st *task)
{
  fwrite(gearman_task_data(task), 1, gearman_task_data_size(task), stdout);
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_warning(gearman_task_st *task)
{
  fprintf(stderr, "warning %.*s\n", (int)gearman_task_data_size(task), (const char *)gearman_task_data(task));
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_status(gearman_task_st *task)
{
  fprintf(stderr, "status %u/%u\n", gearman_task_numerator(task), gearman_task_denominator(task));
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_exception(gearman_task_st *task)
{
  fprintf(stderr, "exception %.*s\n", (int)gearman_task_data_size(task), (const char *)gearman_task_data(task));
  failed= 1;
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_fail(gearman_task_st *task)
{
  (void)task;
  fputs("fail\n", stderr);
  failed= 1;
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_status_answer(gearman_task_st *task)
{
  printf("%d %d %u %u\n", gearman_task_is_known(task), gearman_task_is_running(task),
         gearman_task_numerator(task), gearman_task_denominator(task));
  return GEARMAN_SUCCESS;
}

typedef gearman_task_st *add_fn(gearman_client_st *, gearman_task_st *, void *, const char *, const char *,
                                const void *, size_t, gearman_return_t *);

static add_fn *adder(const char *priority, int background)
{
  if (strcmp(priority, "high") == 0)
    return background ? gearman_client_add_task_high_background : gearman_client_add_task_high;
  if (strcmp(priority, "low") == 0)
    return background ? gearman_client_add_task_low_background : gearman_client_add_task_low;
  return background ? gearman_client_add_task_background : gearman_client_add_task;
}

static gearman_return_t print_handle(gearman_task_st *task)
{
  puts(gearman_task_job_handle(task));
  return GEARMAN_SUCCESS;
}

/* One task, or with `each` one for each line of the payload: all of them are under way at once. */
static void run(const char *name, const char *priority, const char *unique, int background, int each)
{
  gearman_return_t ret;
  gearman_client_set_data_fn(client, on_data);
  gearman_client_set_warning_fn(client, on_warning);
  gearman_client_set_status_fn(client, on_status);
  gearman_client_set_exception_fn(client, on_exception);
  gearman_client_set_fail_fn(client, on_fail);
  gearman_client_set_complete_fn(client, on_data);
  if (background) gearman_client_set_created_fn(client, print_handle);
  char *at= payload, *end= payload + size;
  do
  {
    char *stop= each ? memchr(at, '\n', end - at) : NULL;
    size_t length= (stop ? stop + 1 : end) - at;
    adder(priority, background)(client, NULL, NULL, name, *unique ? unique : NULL, length ? at : NULL, length, &ret);
    check(ret, "add_task");
    at+= length;
  } while (at < end);
  gearman_client_run_tasks(client); /* its code says no more than the callbacks did */
}

static void later(const char *name, const char *unique, time_t when)
{
  gearman_task_attr_t attributes= gearman_task_attr_init_epoch(when, GEARMAN_JOB_PRIORITY_NORMAL);
  gearman_argument_t value= gearman_argument_make(NULL, 0, payload, size);
  gearman_task_st *task=
      gearman_execute(client, name, strlen(name), unique, strlen(unique), &attributes, &value, NULL);
  if (!task) check(gearman_client_error_code(client), "execute");
  puts(gearman_task_job_handle(task));
}

static void query(const char *handle)
{
  gearman_return_t ret;
  gearman_client_set_status_fn(client, on_status_answer);
  gearman_client_add_task_status(client, NULL, NULL, handle, &ret);
  check(ret, "add_task_status");
  check(gearman_client_run_tasks(client), "run_tasks");
}

static void query_unique(const char *unique)
{
  gearman_status_t status= gearman_client_unique_status(client, unique, strlen(unique));
  check(gearman_status_return(status), "unique_status");
  printf("%d %d %u %u\n", gearman_status_is_known(status), gearman_status_is_running(status),
         gearman_status_numerator(status), gearman_status_denominator(status));
}

int main(int argc, char **argv)
{
  if (argc != 7) return 64;
  const char *action= argv[2], *name= argv[3], *priority= argv[4], *unique= argv[5], *when= argv[6];
  client= gearman_client_create(NULL);
  gearman_client_set_timeout(client, 60000);
  check(gearman_client_add_server(client, "127.0.0.1", (in_port_t)atoi(argv[1])), "add_server");
  read_payload();
  if (strcmp(action, "exceptions") == 0 &&
      !gearman_client_set_server_option(client, "exceptions", strlen("exceptions")))
    check(gearman_client_error_code(client), "set_server_option");
  if (strcmp(action, "run") == 0 || strcmp(action, "exceptions") == 0) run(name, priority, unique, 0, 0);
  else if (strcmp(action, "parallel") == 0) run(name, priority, unique, 0, 1);
  else if (strcmp(action, "background") == 0) run(name, priority, unique, 1, 0);
  else if (strcmp(action, "epoch") == 0) later(name, unique, (time_t)atoll(when));
  else if (strcmp(action, "query") == 0) query(name);
  else if (strcmp(action, "query-unique") == 0) query_unique(unique);
  else if (strcmp(action, "echo") == 0)
  {
    check(gearman_client_echo(client, payload, size), "echo");
    puts("echoed"); /* the library compares the bytes itself */
  }
  else if (strcmp(action, "version") == 0) puts(gearman_version());
  else return 64;
  gearman_client_free(client);
  free(payload);
  return failed;
}
