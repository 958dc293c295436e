/* Runs `serving_default` of a SavedModel: no Python, nothing but TensorFlow's own C library.
 *
 *     serve DIRECTORY INPUT REPLIES SCORES LENGTHS [OP_LIBRARY ...]  < lines  > answers
 *
 * INPUT and the outputs are names of tensors, "operation:index". Numbers are as this machine
 * writes them.
 *     lines    uint32 B, then B times: uint32 size, bytes
 *     answers  uint32 B, uint32 K, then B * K times: float32 score, int32 length, uint32 size, bytes
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static TF_Status* status;

static void demand(int good, const char* what, const char* why) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void demand_ok(const char* what) {
  demand(TF_GetCode(status) == TF_OK, what, TF_Message(status));
}

static uint32_t read_number(void) {
  uint32_t number;
  demand(fread(&number, sizeof number, 1, stdin) == 1, "stdin", "ends too early");
  return number;
}

static void write_bytes(const void* bytes, size_t size) {
  demand(fwrite(bytes, 1, size, stdout) == size, "stdout", "cannot be written");
}

static void write_number(uint32_t number) { write_bytes(&number, sizeof number); }

static TF_Tensor* read_lines(void) {
  int64_t count = read_number();
  TF_Tensor* lines = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString* strings = TF_TensorData(lines);
  for (int64_t i = 0; i < count; ++i) {
    size_t size = read_number();
    char* bytes = malloc(size + 1);
    demand(fread(bytes, 1, size, stdin) == size, "stdin", "ends too early");
    TF_StringInit(&strings[i]);
    TF_StringCopy(&strings[i], bytes, size);
    free(bytes);
  }
  return lines;
}

static TF_Output find(TF_Graph* graph, const char* name) {
  char operation[512];
  const char* colon = strrchr(name, ':');
  demand(colon != NULL && colon - name < (long)sizeof operation, name, "is no operation:index");
  memcpy(operation, name, colon - name);
  operation[colon - name] = '\0';
  TF_Output output = {TF_GraphOperationByName(graph, operation), atoi(colon + 1)};
  demand(output.oper != NULL, name, "is not in the graph");
  return output;
}

int main(int count, char** arguments) {
  demand(count >= 6, "usage", "serve DIRECTORY INPUT REPLIES SCORES LENGTHS [OP_LIBRARY ...]");
  status = TF_NewStatus();
  for (int i = 6; i < count; ++i) {
    TF_LoadLibrary(arguments[i], status);
    demand_ok(arguments[i]);
  }
  const char* tags[] = {"serve"};
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph, NULL, status);
  demand_ok(arguments[1]);

  TF_Output input = find(graph, arguments[2]), outputs[3];
  for (int i = 0; i < 3; ++i) outputs[i] = find(graph, arguments[3 + i]);
  TF_Tensor *lines = read_lines(), *found[3];
  TF_SessionRun(session, NULL, &input, &lines, 1, outputs, found, 3, NULL, 0, NULL, status);
  demand_ok("run");

  uint32_t batch = TF_Dim(found[0], 0), beams = TF_Dim(found[0], 1);
  const TF_TString* replies = TF_TensorData(found[0]);
  const float* scores = TF_TensorData(found[1]);
  const int32_t* lengths = TF_TensorData(found[2]);
  write_number(batch);
  write_number(beams);
  for (size_t i = 0; i < (size_t)batch * beams; ++i) {
    write_bytes(&scores[i], sizeof scores[i]);
    write_bytes(&lengths[i], sizeof lengths[i]);
    write_number(TF_StringGetSize(&replies[i]));
    write_bytes(TF_StringGetDataPointer(&replies[i]), TF_StringGetSize(&replies[i]));
  }
  for (int i = 0; i < 3; ++i) TF_DeleteTensor(found[i]);
  TF_DeleteTensor(lines);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return fflush(stdout) == 0 ? 0 : 1;
}
