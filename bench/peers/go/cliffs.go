// "No cliff": the Go side of bench/src/cliffs; what each does stands there. Go has no form of *_apart (its goroutines
// move: compare with the plain workload under the same GOMAXPROCS), nor of futures.
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The time that all threads of this process have been on a processor, in ns.
func cpuNs() float64 {
	tasks, _ := os.ReadDir("/proc/self/task")
	sum := 0.0
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/schedstat")
		if f := strings.Fields(string(b)); len(f) > 0 {
			ns, _ := strconv.ParseFloat(f[0], 64)
			sum += ns
		}
	}
	return sum
}

func percentileUs(sorted []int64, p float64) float64 {
	return float64(sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]) / 1e3
}

func burst(name string, period time.Duration) {
	type message struct{ due, sent time.Time }
	n := int(time.Second / period)
	c := make(chan message)
	var fromSend, fromDue []int64
	received := make(chan struct{})
	go func() {
		for m := range c {
			now := time.Now()
			fromSend = append(fromSend, now.Sub(m.sent).Nanoseconds())
			fromDue = append(fromDue, now.Sub(m.due).Nanoseconds())
		}
		close(received)
	}()
	cpu := cpuNs()
	start := time.Now()
	for i := 1; i <= n; i++ {
		due := start.Add(period * time.Duration(i))
		if left := time.Until(due); left > 0 {
			time.Sleep(left)
		}
		c <- message{due, time.Now()}
	}
	took := float64(time.Since(start).Nanoseconds())
	used := cpuNs() - cpu
	close(c)
	<-received
	slices.Sort(fromSend)
	slices.Sort(fromDue)
	report(name+"_p50", percentileUs(fromSend, 0.5), "us")
	report(name+"_p99", percentileUs(fromSend, 0.99), "us")
	report(name+"_due_p50", percentileUs(fromDue, 0.5), "us")
	report(name+"_due_p99", percentileUs(fromDue, 0.99), "us")
	report(name+"_cpu", used/took*100, "%")
}

func idleProgram() {
	stop := make(chan struct{})
	var ready sync.WaitGroup
	for i := 0; i < 1000; i++ {
		ready.Add(1)
		go func() {
			time.Sleep(time.Millisecond)
			ready.Done()
			<-stop
		}()
	}
	ready.Wait()
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}

var sink uint64

func chunk() {
	x := uint64(1)
	for i := 0; i < 20000; i++ {
		x = x*6364136223846793005 + 1
	}
	if x == 0 {
		sink = x
	}
}

func imbalance() {
	const p, chunks, reps = 8, 3000, 5
	workers := runtime.GOMAXPROCS(0)
	var ratios []float64
	for r := 0; r < reps; r++ {
		var wg sync.WaitGroup
		start := time.Now()
		for w := 0; w < workers; w++ {
			wg.Add(1)
			go func() {
				runtime.LockOSThread()
				for i := 0; i < p*chunks/workers; i++ {
					chunk()
				}
				wg.Done()
			}()
		}
		wg.Wait()
		ideal := time.Since(start)
		start = time.Now()
		for g := 0; g < p; g++ {
			wg.Add(1)
			go func() {
				for i := 0; i < chunks; i++ {
					chunk()
					runtime.Gosched()
				}
				wg.Done()
			}()
		}
		wg.Wait()
		ratios = append(ratios, float64(time.Since(start))/float64(ideal))
	}
	slices.Sort(ratios)
	report("imbalance_8", ratios[reps/2], "x-ideal")
	report("imbalance_8_worst", ratios[reps-1], "x-ideal")
}

func hog(name string, n int) {
	var delays []int64
	for r := 0; r < 10; r++ {
		c := make(chan time.Duration, n)
		done := make(chan struct{})
		go func() {
			for i := 0; i < n; i++ {
				asked := time.Now()
				go func() { c <- time.Since(asked) }()
			}
			end := time.Now().Add(100 * time.Millisecond)
			for time.Now().Before(end) {
				chunk()
			}
			close(done)
		}()
		for i := 0; i < n; i++ {
			delays = append(delays, (<-c).Nanoseconds())
		}
		<-done
	}
	slices.Sort(delays)
	report(name+"_p50", percentileUs(delays, 0.5), "us")
	report(name+"_max", percentileUs(delays, 1), "us")
}

// Starts n goroutines and waits until all are parked; they go on when stop is closed.
func parked(n int) (stop chan struct{}, ended *sync.WaitGroup) {
	stop, ended = make(chan struct{}), new(sync.WaitGroup)
	var ready sync.WaitGroup
	ready.Add(n)
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			ready.Done()
			<-stop
			ended.Done()
		}()
	}
	ready.Wait()
	return stop, ended
}

// n goroutines that are all parked, then woken; the ns from the close to the end of the last.
func wave(n int) float64 {
	stop, ended := parked(n)
	start := time.Now()
	close(stop)
	ended.Wait()
	return float64(time.Since(start).Nanoseconds())
}

const settle = 10 * time.Second

func life() {
	time.Sleep(time.Second)
	before := rss()
	wave(10000)
	time.Sleep(settle)
	warm := rss()
	for i := 0; i < 1000; i++ {
		wave(10000)
	}
	peak := rss()
	time.Sleep(settle)
	after := rss()
	report("life_10m_before", before/1e6, "MB")
	report("life_10m_first_wave", warm/1e6, "MB")
	report("life_10m_peak", peak/1e6, "MB")
	report("life_10m_after", after/1e6, "MB")
	report("life_10m_growth", (after/before-1)*100, "%")
	report("life_10m_growth_warm", (after/warm-1)*100, "%")
}

func release() {
	const n = 1000000
	before := rss()
	stop, ended := parked(n)
	peak := rss()
	close(stop)
	ended.Wait()
	start := time.Now()
	when := math.Inf(1)
	back := func() float64 { return (peak - rss()) / (peak - before) * 100 }
	for time.Since(start) < settle {
		if math.IsInf(when, 1) && back() >= 90 {
			when = float64(time.Since(start).Milliseconds())
		}
		time.Sleep(100 * time.Millisecond)
	}
	report("release_1m_back", back(), "%")
	report("release_1m_90_percent", when, "ms")
}

var sizes = []int{10, 1000, 100000, 1000000}

func eachSize(name string, atLeast int, sizes []int, round func(n int) float64) {
	for _, n := range sizes {
		if n <= 1000 {
			round(n)
		}
		rounds := max(atLeast/n, 1)
		ns := 0.0
		for i := 0; i < rounds; i++ {
			ns += round(n)
		}
		report(fmt.Sprintf("%s_%d", name, n), ns/float64(rounds*n), "ns/each")
	}
}

func scaleSpawn() {
	eachSize("scale_spawn", 1000000, sizes, func(n int) float64 {
		start := time.Now()
		var wg sync.WaitGroup
		wg.Add(n)
		for i := 0; i < n; i++ {
			go func() { wg.Done() }()
		}
		wg.Wait()
		return float64(time.Since(start).Nanoseconds())
	})
}

func scaleWake() { eachSize("scale_wake", 300000, sizes, wave) }

func scaleTimer() {
	const ops = 200000
	long := func(i int) time.Duration { return time.Duration(3600+i%1000) * time.Second }
	for _, n := range sizes {
		others := make([]*time.Timer, n)
		for i := range others {
			others[i] = time.NewTimer(long(i))
		}
		start := time.Now()
		for i := 0; i < ops; i++ {
			time.NewTimer(long(i)).Stop()
		}
		report(fmt.Sprintf("scale_timer_%d", n), float64(time.Since(start).Nanoseconds())/ops, "ns/each")
		for _, t := range others {
			t.Stop()
		}
	}
}

// reflect.Select takes 65536 cases at most.
func scaleSelect() {
	eachSize("scale_select", 1000000, []int{10, 1000, 65535}, func(n int) float64 {
		channels := make([]chan int, n)
		for i := range channels {
			channels[i] = make(chan int)
		}
		go func() { channels[n/3] <- n }()
		start := time.Now()
		cases := make([]reflect.SelectCase, n)
		for i, c := range channels {
			cases[i] = reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
		}
		if chosen, _, _ := reflect.Select(cases); chosen != n/3 {
			panic("select")
		}
		return float64(time.Since(start).Nanoseconds())
	})
}

func scaleContext() {
	eachSize("scale_context", 300000, sizes, func(n int) float64 {
		start := time.Now()
		tree := make([]context.Context, n)
		stops := make([]context.CancelFunc, n)
		tree[0], stops[0] = context.WithCancel(context.Background())
		for i := 1; i < n; i++ {
			tree[i], stops[i] = context.WithCancel(tree[(i-1)/10])
		}
		stops[0]()
		if tree[n-1].Err() == nil {
			panic("not cancelled")
		}
		return float64(time.Since(start).Nanoseconds())
	})
}

var cliffs = []workload{
	{"burst_10us", func() { burst("burst_10us", 10*time.Microsecond) }},
	{"burst_100us", func() { burst("burst_100us", 100*time.Microsecond) }},
	{"burst_1ms", func() { burst("burst_1ms", time.Millisecond) }},
	{"idle_program", idleProgram},
	{"imbalance_8", imbalance},
	{"hog_goroutines", func() { hog("hog_1_goroutine", 1); hog("hog_100_goroutines", 100) }},
	{"life_10m", life},
	{"release_1m", release},
	{"scale_spawn", scaleSpawn},
	{"scale_wake", scaleWake},
	{"scale_timer", scaleTimer},
	{"scale_select", scaleSelect},
	{"scale_context", scaleContext},
}
