// Enough of CUDA C++ to run a kernel on a CPU: each thread of a block is a thread, the blocks one after another.

#include <barrier>
#include <math.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

struct Index {
    int x;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim;
static std::unique_ptr<std::barrier<>> whole;
static std::vector<std::unique_ptr<std::barrier<>>> warps;
static float lanes[1024];
static std::mutex one_at_a_time;
alignas(16) static float shared_memory[1 << 16];


#define __global__
#define __device__
#define __launch_bounds__(threads)

static void __syncthreads() { whole->arrive_and_wait(); }

static float __shfl_down_sync(unsigned, float value, int offset) {
    const int me = threadIdx.x;
    lanes[me] = value;
    warps[me / 32]->arrive_and_wait();
    const float other = me % 32 + offset < 32 ? lanes[me + offset] : value;
    warps[me / 32]->arrive_and_wait();
    return other;
}

static void atomicAdd(float *at, float value) {
    std::lock_guard<std::mutex> lock(one_at_a_time);
    *at += value;
}

static float __int_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static float half_as_float(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<float>(value);
}

template <class Kernel> static void launch(int blocks, int threads, Kernel kernel) {
    blockDim.x = threads;
    whole = std::make_unique<std::barrier<>>(threads);
    warps.clear();
    for (int i = 0; i < threads / 32; i++) warps.push_back(std::make_unique<std::barrier<>>(32));
    for (int block = 0; block < blocks; block++) {
        std::vector<std::thread> team;
        for (int i = 0; i < threads; i++)
            team.emplace_back([=] {
                threadIdx.x = i, blockIdx.x = block;
                kernel();
            });
        for (auto &thread : team) thread.join();
    }
}
