<?php

// The worker's side of RoadRunner's relay over pipes, for where Composer's packages cannot be had: examples/roadrunner/worker.php runs
// with it unchanged. Frames as goridge documents them (version 1), the request's and the answer's heads in protobuf, which
// RoadRunner speaks from 2025 on, or in JSON, which it spoke before. PSR-7 is the real one (Debian: php-nyholm-psr7).

declare(strict_types=1);

namespace Spiral\RoadRunner {
    /** Frames on standard input and output. */
    final class Worker
    {
        private const CONTROL = 0x01;
        private const JSON = 0x08;
        private const PROTOBUF = 0x80;

        /** How the heads of the last request, and of its answer, are written. */
        public bool $isJson = false;

        public static function create(): self
        {
            return new self();
        }

        /** @return array{string, string}|null context and body; null: this worker is to end */
        public function waitPayload(): ?array
        {
            while (true) {
                $header = self::read(12);
                if ($header === null) {
                    return null;
                }
                ['first' => $first, 'flags' => $flags, 'len' => $len, 'crc' => $crc] = unpack('Cfirst/Cflags/Vlen/Vcrc', $header);
                if ($crc !== crc32(substr($header, 0, 6))) {
                    throw new \RuntimeException('a frame with a wrong sum');
                }
                $words = ($first & 0x0f) - 3;
                $options = $words > 0 ? unpack('V*', self::read(4 * $words)) : [];
                $payload = $len > 0 ? self::read($len) : '';
                if ($flags & self::CONTROL) {
                    $command = json_decode($payload, true);
                    if (isset($command['pid'])) {
                        self::write(self::CONTROL | self::JSON, json_encode(['pid' => getmypid()]));
                        continue;
                    }
                    if ($command['stop'] ?? false) {
                        return null;
                    }
                    continue;
                }
                $this->isJson = ($flags & self::PROTOBUF) === 0;
                $at = $options[1] ?? 0;
                return [substr($payload, 0, $at), substr($payload, $at)];
            }
        }

        public function respond(string $context, string $body): void
        {
            self::write($this->isJson ? self::JSON : self::PROTOBUF, $context . $body, strlen($context));
        }

        private static function read(int $len): ?string
        {
            $bytes = '';
            while (strlen($bytes) < $len) {
                $piece = fread(STDIN, $len - strlen($bytes));
                if ($piece === false || $piece === '') {
                    return null;
                }
                $bytes .= $piece;
            }
            return $bytes;
        }

        private static function write(int $flags, string $payload, int ...$options): void
        {
            $start = pack('CCV', 0x10 | 3 + count($options), $flags, strlen($payload));
            $frame = $start . pack('Vv', crc32($start), 0) . pack('V*', ...$options) . $payload;
            while ($frame !== '' && ($len = fwrite(STDOUT, $frame))) {
                $frame = substr($frame, $len);
            }
            fflush(STDOUT);
        }
    }
}

namespace Spiral\RoadRunner\Http {
    use Nyholm\Psr7\ServerRequest;
    use Psr\Http\Message\ResponseInterface;
    use Psr\Http\Message\ServerRequestInterface;
    use Spiral\RoadRunner\Worker;

    final class PSR7Worker
    {
        private readonly Worker $worker;

        public function __construct(Worker $worker, mixed ...$factories)
        {
            $this->worker = $worker;
        }

        /** Request: 2 protocol, 3 method, 4 URI, 5 headers as entries of 1 name and 2 values (1, repeated). */
        public function waitRequest(): ?ServerRequestInterface
        {
            $payload = $this->worker->waitPayload();
            if ($payload === null) {
                return null;
            }
            [$context, $body] = $payload;
            if ($this->worker->isJson) {
                $head = json_decode($context, true, flags: JSON_THROW_ON_ERROR);
                return new ServerRequest($head['method'], $head['uri'], $head['headers'], $body, substr($head['protocol'], 5));
            }
            $fields = self::fields($context);
            $headers = [];
            foreach ($fields[5] ?? [] as $entry) {
                $parts = self::fields($entry);
                $headers[$parts[1][0]] = self::fields($parts[2][0] ?? '')[1] ?? [];
            }
            return new ServerRequest($fields[3][0], $fields[4][0], $headers, $body, substr($fields[2][0] ?? 'HTTP/1.1', 5));
        }

        /** Response: 1 status, 2 headers as entries like those of the request. */
        public function respond(ResponseInterface $response): void
        {
            if ($this->worker->isJson) {
                $head = ['status' => $response->getStatusCode(), 'headers' => (object) $response->getHeaders()];
                $this->worker->respond(json_encode($head, JSON_THROW_ON_ERROR), (string) $response->getBody());
                return;
            }
            $context = "\x08" . self::varint($response->getStatusCode());
            foreach ($response->getHeaders() as $name => $values) {
                $list = implode('', array_map(static fn (string $value): string => self::bytes(1, $value), $values));
                $context .= self::bytes(2, self::bytes(1, $name) . self::bytes(2, $list));
            }
            $this->worker->respond($context, (string) $response->getBody());
        }

        /** @return array<int, list<string|int>> number of the field to its values */
        private static function fields(string $message): array
        {
            $fields = [];
            for ($at = 0; $at < strlen($message);) {
                $tag = self::number($message, $at);
                $value = self::number($message, $at);
                if (($tag & 7) === 2) {
                    $len = $value;
                    $value = substr($message, $at, $len);
                    $at += $len;
                }
                $fields[$tag >> 3][] = $value;
            }
            return $fields;
        }

        private static function number(string $message, int &$at): int
        {
            for ($number = $shift = 0; ; $shift += 7) {
                $byte = ord($message[$at++]);
                $number |= ($byte & 0x7f) << $shift;
                if ($byte < 0x80) {
                    return $number;
                }
            }
        }

        private static function bytes(int $field, string $bytes): string
        {
            return chr($field << 3 | 2) . self::varint(strlen($bytes)) . $bytes;
        }

        private static function varint(int $number): string
        {
            $bytes = '';
            for (; $number >= 0x80; $number >>= 7) {
                $bytes .= chr($number & 0x7f | 0x80);
            }
            return $bytes . chr($number);
        }
    }
}
