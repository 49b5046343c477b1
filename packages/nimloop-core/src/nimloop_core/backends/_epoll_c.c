/* Wait for events with epoll_wait(2) and call the watchers of the batch: the twin of `_epoll_py.wait`.
 *
 * One call per iteration of the loop. What it saves is the list of tuples that `select.epoll.poll` makes, and the
 * interpreter's steps around each callback. For an event it looks into the lists of the table only, at attributes where
 * a watcher may be younger than the batch. It keeps nothing but the names of attributes, and lets go of the GIL only
 * while it waits. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>

#define MOST_EVENTS 4096 /* of one batch: 48 KiB of stack */

/* The bits of nimloop_core: checked against them by a test. */
enum { READ = 1, WRITE = 2, ERROR = 4, HUP = 8 };

#ifdef Py_LIMITED_API
#define call_with(callable, argument) PyObject_CallFunctionObjArgs(callable, argument, NULL)
#else
#define call_with(callable, argument) PyObject_CallOneArg(callable, argument)
#endif

typedef struct {
    PyObject *slots, *callbacks, *newest, *generation, *on_error;
} Names;

/* What a batch needs of the table. */
typedef struct {
    PyObject *slots, *callbacks, *newest, *on_error;
    long long youngest; /* watchers of later generations are not called */
} Table;

static long mask_of(uint32_t bits)
{
    return (bits & EPOLLIN ? READ : 0) | (bits & EPOLLOUT ? WRITE : 0) | (bits & EPOLLERR ? ERROR : 0) |
           (bits & (EPOLLHUP | EPOLLRDHUP | EPOLLPRI) ? HUP : 0);
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Wait; the number of events, or -1 with an exception. A signal's Python handler runs, then the wait goes on. */
static int wait_for_events(int epoll_fd, struct epoll_event *events, int most, long long timeout_ns)
{
    long long deadline_ns = timeout_ns > 0 ? now_ns() + timeout_ns : 0;
    for (;;) {
        /* Milliseconds, rounded up: a wait is never shorter than asked for. The caller keeps it below a day. */
        int timeout = timeout_ns < 0 ? -1 : (int)((timeout_ns + 999999) / 1000000);
        int count;
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(epoll_fd, events, most, timeout);
        Py_END_ALLOW_THREADS
        if (count >= 0)
            return count;
        if (errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - now_ns();
            if (timeout_ns < 0)
                timeout_ns = 0;
        }
    }
}

/* An item as a new reference; NULL without an exception where there is none, or None. */
static PyObject *item_of(PyObject *list, int fd)
{
    if (fd >= PyList_Size(list))
        return NULL;
#ifdef Py_GIL_DISABLED
    PyObject *item = PyList_GetItemRef(list, fd);
#else
    PyObject *item = PyList_GetItem(list, fd);
    Py_XINCREF(item);
#endif
    if (item == Py_None)
        Py_CLEAR(item);
    return item;
}

/* The last generation that was given out; -1 with an exception. */
static long long newest_of(PyObject *newest)
{
    PyObject *number = PyList_GetItem(newest, 0); /* only the thread of the loop changes it */
    return number == NULL ? -1 : PyLong_AsLongLong(number);
}

/* Whether a watcher was there before the batch was fetched; -1 with an exception. */
static int is_older(PyObject *watcher, PyObject *generation_name, long long youngest)
{
    PyObject *generation = PyObject_GetAttr(watcher, generation_name);
    if (generation == NULL)
        return -1;
    long long number = PyLong_AsLongLong(generation);
    Py_DECREF(generation);
    return number == -1 && PyErr_Occurred() ? -1 : number <= youngest;
}

/* Give an `Exception` to the handler; -1 when it was a BaseException of another kind, or the handler raised. */
static int report(PyObject *on_error, PyObject *watcher)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    PyObject *result = PyObject_CallFunctionObjArgs(on_error, error, watcher, NULL);
    Py_DECREF(type);
    Py_DECREF(error);
    Py_XDECREF(traceback);
    if (result == NULL)
        return -1;
    Py_DECREF(result);
    return 0;
}

/* Call one watcher: 1 when it was called, 0 when the event is stale, -1 when the batch ends here. */
static int call(PyObject *watcher, PyObject *callback, uint32_t bits, const Table *table, const Names *names)
{
    if (newest_of(table->newest) != table->youngest) {
        int older = is_older(watcher, names->generation, table->youngest);
        if (older <= 0)
            return older;
    }
    PyObject *mask = PyLong_FromLong(mask_of(bits));
    PyObject *result = mask == NULL ? NULL : call_with(callback, mask);
    Py_XDECREF(mask);
    if (result == NULL)
        return report(table->on_error, watcher) < 0 ? -1 : 1;
    Py_DECREF(result);
    return 1;
}

/* The same for a descriptor; 0 also when the event is nobody's: the wake-up, or unregistered by a callback before it. */
static int dispatch(int fd, uint32_t bits, const Table *table, const Names *names)
{
    PyObject *watcher = item_of(table->slots, fd);
    if (watcher == NULL)
        return 0;
    PyObject *callback = item_of(table->callbacks, fd);
    int outcome = callback == NULL ? 0 : call(watcher, callback, bits, table, names);
    Py_XDECREF(callback);
    Py_DECREF(watcher);
    return outcome;
}

/* A BaseException ended the batch: name its descriptors, and let the exception go on. */
static void name_all(PyObject *lost, const struct epoll_event *events, int count)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    for (int index = 0; index < count; index++) {
        PyObject *fd = PyLong_FromLong(events[index].data.fd);
        if (fd == NULL || PyList_Append(lost, fd) < 0)
            PyErr_WriteUnraisable(lost);
        Py_XDECREF(fd);
    }
    PyErr_Restore(type, error, traceback);
}

static void let_go(Table *table)
{
    Py_CLEAR(table->slots);
    Py_CLEAR(table->callbacks);
    Py_CLEAR(table->newest);
    Py_CLEAR(table->on_error);
}

/* Look the table up once for the batch; -1 with an exception. */
static int take(PyObject *object, Table *table, const Names *names)
{
    if ((table->slots = PyObject_GetAttr(object, names->slots)) == NULL ||
        (table->callbacks = PyObject_GetAttr(object, names->callbacks)) == NULL ||
        (table->newest = PyObject_GetAttr(object, names->newest)) == NULL ||
        (table->on_error = PyObject_GetAttr(object, names->on_error)) == NULL)
        return -1;
    if (!PyList_Check(table->slots) || !PyList_Check(table->callbacks) || !PyList_Check(table->newest)) {
        PyErr_SetString(PyExc_TypeError, "slots, callbacks and newest of a table are lists");
        return -1;
    }
    table->youngest = newest_of(table->newest);
    return PyErr_Occurred() ? -1 : 0;
}

/* Dispatch a batch; the number of watchers that were called, or -1 with an exception. */
static long dispatch_all(const struct epoll_event *events, int count, PyObject *object, PyObject *lost,
                         const Names *names)
{
    Table table = {0};
    long called = take(object, &table, names);
    for (int index = 0; index < count && called >= 0; index++) {
        int outcome = dispatch(events[index].data.fd, events[index].events, &table, names);
        if (outcome < 0)
            name_all(lost, events, count);
        called = outcome < 0 ? -1 : called + outcome;
    }
    let_go(&table);
    return called;
}

/* wait(epoll, fd, capacity, timeout_ns, table, lost) -> (events, watchers called) */
static PyObject *epoll_wait_and_dispatch(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 6) {
        PyErr_SetString(PyExc_TypeError, "wait() takes 6 arguments");
        return NULL;
    }
    long epoll_fd = PyLong_AsLong(args[1]);
    long capacity = PyLong_AsLong(args[2]);
    long long timeout_ns = PyLong_AsLongLong(args[3]);
    if (PyErr_Occurred())
        return NULL;
    struct epoll_event events[MOST_EVENTS];
    int most = capacity < 1 ? 1 : capacity > MOST_EVENTS ? MOST_EVENTS : (int)capacity;
    int count = wait_for_events((int)epoll_fd, events, most, timeout_ns);
    if (count < 0)
        return NULL;
    long called = count == 0 ? 0 : dispatch_all(events, count, args[4], args[5], PyModule_GetState(module));
    return called < 0 ? NULL : Py_BuildValue("il", count, called);
}

static int name_attributes(PyObject *module)
{
    Names *names = PyModule_GetState(module);
    names->slots = PyUnicode_InternFromString("slots");
    names->callbacks = PyUnicode_InternFromString("callbacks");
    names->newest = PyUnicode_InternFromString("newest");
    names->generation = PyUnicode_InternFromString("generation");
    names->on_error = PyUnicode_InternFromString("on_error");
    return PyErr_Occurred() ? -1 : 0;
}

static int clear_names(PyObject *module)
{
    Names *names = PyModule_GetState(module);
    Py_CLEAR(names->slots);
    Py_CLEAR(names->callbacks);
    Py_CLEAR(names->newest);
    Py_CLEAR(names->generation);
    Py_CLEAR(names->on_error);
    return 0;
}

static PyMethodDef methods[] = {
    {"wait", (PyCFunction)(void (*)(void))epoll_wait_and_dispatch, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, name_attributes},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "nimloop_core.backends._epoll_c",
    .m_size = sizeof(Names),
    .m_methods = methods,
    .m_slots = module_slots,
    .m_clear = clear_names,
};

PyMODINIT_FUNC PyInit__epoll_c(void)
{
    return PyModuleDef_Init(&definition);
}
